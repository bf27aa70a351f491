// The examples as a newcomer meets them: a fresh copy of the folder, and the commands of its README, word for word.
import { spawn } from 'node:child_process';
import { cpSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { fail } from './harness.mjs';

const EXAMPLES = fileURLToPath(new URL('../../examples', import.meta.url));
// What a developer's folder holds and a fresh clone does not.
const MADE = ['node_modules', 'dist', '.venv', '__pycache__'];
// What would let an example use packages that it did not install itself.
const FOREIGN = ['NODE_PATH', 'PYTHONPATH', 'VIRTUAL_ENV', 'OPENAI_API_KEY'];

/** The lines of the `sh` blocks of a document, without comments. */
export function commandsOf(markdown) {
  const blocks = [...markdown.matchAll(/^```sh\n(.*?)^```$/gms)].map(match => match[1]);
  return blocks.join('').split('\n').map(line => line.replace(/\s+# .*$/, '')).filter(line => line !== '');
}

/** Copies an example to a folder of its own, outside of the repository. */
export function freshCopy(name) {
  const folder = mkdtempSync(join(tmpdir(), `sessile-${name}-`));
  const filter = source => !MADE.includes(basename(source));
  cpSync(join(EXAMPLES, name), folder, { recursive: true, filter });
  const commands = commandsOf(readFileSync(join(folder, 'README.md'), 'utf8'));
  if (commands.length === 0) fail(`the README of examples/${name} has no commands`);
  return { folder, commands, remove: () => rmSync(folder, { recursive: true, force: true }) };
}

function environment(base, more) {
  const own = {
    ...process.env, SESSILE_URL: base, PYTHONNOUSERSITE: '1', PIP_DISABLE_PIP_VERSION_CHECK: '1',
    NO_COLOR: '1', // With CI set, tools colour what they print even to a pipe, addresses included.
    ...more,
  };
  for (const name of FOREIGN) delete own[name];
  return own;
}

/** Starts a command line in a process group of its own; `end` ends all of it. */
export function start(line, folder, base, more = {}) {
  const child = spawn('bash', ['-c', line], {
    cwd: folder, env: environment(base, more), detached: true, stdio: ['ignore', 'pipe', 'pipe'],
  });
  const running = { output: '' };
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8').on('data', text => { running.output += text; });
  }
  running.status = new Promise(resolve => child.on('close', resolve));
  running.end = async () => {
    try {
      process.kill(-child.pid, 'SIGTERM');
    } catch (error) {
      if (error.code !== 'ESRCH') throw error;
    }
    await running.status;
  };
  return running;
}

/** Runs a command line to its end; gives what it printed. */
export async function finished(line, folder, base, more) {
  const running = start(line, folder, base, more);
  const status = await running.status;
  if (status !== 0) fail(`\`${line}\` ended with ${status}: ${running.output.slice(-800)}`);
  return running.output;
}
