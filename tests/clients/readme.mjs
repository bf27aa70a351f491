// The README's commands, as a newcomer types them, and what the README says they print.
// usage: node readme.mjs <base-url> [scenario ...]
import { spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { check, fail, finish, readArguments, run, same, until } from './harness.mjs';
import { PROGRAM } from './ownserver.mjs';

const { base, only } = readArguments();
const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const ADDRESS = 'http://127.0.0.1:8080';
const RUN = 'cargo run --release';
/** How long a command that follows the log is listened to. */
const LISTEN_S = 3;

/** The commands behind `$ ` in the `console` blocks of a document, each with what it prints. */
function transcript(markdown) {
  const commands = [];
  for (const [, block] of markdown.matchAll(/^```console\n(.*?)^```$/gms)) {
    for (const line of block.trimEnd().split('\n')) {
      if (line.startsWith('$ ')) commands.push({ command: line.slice(2), prints: [] });
      else commands.at(-1).prints.push(line);
    }
  }
  return commands;
}

/** The `sh` blocks of a document: commands alone. */
const lines = markdown => [...markdown.matchAll(/^```sh\n(.*?)^```$/gms)]
  .flatMap(([, block]) => block.split('\n')).filter(line => line !== '');

/** Whether `printed` has the lines that are promised, in their order; `…` stands for anything. */
function checkPrinted(command, promised, printed) {
  const got = printed.split('\n');
  let at = 0;
  for (const line of promised.filter(line => line !== '' && line !== '…')) {
    const escaped = line.replaceAll(ADDRESS, 'http://HOST').replace(/[.*+?^${}()|[\]\\]/g, '\\$&');
    const wanted = new RegExp(`^${escaped.replaceAll('…', '.*').replace('http://HOST', 'http://[0-9.:]+')}$`);
    const found = got.findIndex((text, index) => index >= at && wanted.test(text));
    if (found < 0) fail(`\`${command}\` does not print \`${line}\`, but:\n${printed.slice(0, 1500)}`);
    at = found + 1;
  }
}

function shell(command, environment, folder = ROOT) {
  const child = spawn('timeout', [String(LISTEN_S), 'bash', '-c', command], {
    cwd: folder, env: { ...process.env, ...environment }, stdio: ['ignore', 'pipe', 'ignore'],
  });
  let output = '';
  child.stdout.setEncoding('utf8').on('data', text => { output += text; });
  return new Promise(resolve => child.on('close', status => resolve({ status, output })));
}

const scenarios = {
  async readme() {
    const commands = transcript(readFileSync(join(ROOT, 'README.md'), 'utf8'));
    const [first, ...others] = commands;
    same(first.command, RUN, 'the first command');
    check(others.length >= 3, 'the README shows commands');
    const data = mkdtempSync(join(tmpdir(), 'sessile-readme-'));
    const environment = { SESSILE__HTTP__LISTEN: '127.0.0.1:0', SESSILE__STORAGE__DATA: join(data, 'data') };
    // The same program without its optimisations: nobody has to wait for them here.
    const [program, ...given] = (process.env.SESSILE_README_RELEASE ? RUN : RUN.replace(' --release', '')).split(' ');
    const server = spawn(program, given, { cwd: ROOT, env: { ...process.env, ...environment }, stdio: ['ignore', 'pipe', 'ignore'], detached: true });
    try {
      let said = '';
      server.stdout.setEncoding('utf8').on('data', text => { said += text; });
      const address = await until(() => said.match(/http:\S+/)?.[0], 'the server to listen', 600_000);
      checkPrinted(first.command, first.prints, said);
      for (const { command, prints } of others) {
        const [tool] = command.split(' ');
        if ((await shell(`command -v ${tool}`, environment)).status !== 0) {
          console.log(`skip readme \`${command}\`: no ${tool} on this machine`);
          continue;
        }
        const typed = command.replaceAll(ADDRESS, address).replaceAll('target/release/sessile', PROGRAM);
        // A new session's file may take some seconds.
        const printed = await until(async () => {
          const { output } = await shell(typed, environment, data);
          return prints.length === 0 || output.trim() !== '' ? output : undefined;
        }, `\`${command}\` to print something`);
        checkPrinted(command, prints, printed);
      }
    } finally {
      process.kill(-server.pid, 'SIGKILL');
      rmSync(data, { recursive: true, force: true });
    }
  },

  // The curl lines of docs/clients.md, in their order.
  async docs() {
    const id = `docs-${process.pid}-${Date.now()}`;
    const commands = lines(readFileSync(join(ROOT, 'docs', 'clients.md'), 'utf8'));
    check(commands.length > 5, 'docs/clients.md shows commands');
    for (const command of commands) {
      const typed = command.replaceAll(ADDRESS, base).replaceAll('tour', id).replace('curl ', 'curl --fail-with-body ');
      const { status, output } = await shell(typed, {});
      same(status, 0, `status of \`${command}\`, which printed ${output.slice(0, 300)}`);
    }
  },
};

await run('readme', scenarios, only, 700_000);
finish();
