// A server of one's own, to be ended and started again.
import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { fail } from './harness.mjs';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
export const PROGRAM = process.env.SESSILE_BIN ?? join(process.env.CARGO_TARGET_DIR ?? join(ROOT, 'target'), 'debug', 'sessile');

export class OwnServer {
  #data = mkdtempSync(join(tmpdir(), 'sessile-own-'));
  #child;
  #listen = '127.0.0.1:0';
  base;

  /** Starts it, at the address of the first time. */
  async start() {
    const child = spawn(PROGRAM, ['serve', '--listen', this.#listen, '--data', this.#data], { stdio: ['ignore', 'pipe', 'ignore'] });
    this.#child = child;
    this.base = await new Promise(resolve => {
      let said = '';
      child.stdout.setEncoding('utf8').on('data', text => {
        said += text;
        const address = said.match(/^sessile listening on (\S+)$/m);
        if (address) resolve(address[1]);
      });
      child.on('error', () => resolve(undefined));
      child.on('exit', () => resolve(undefined));
    });
    if (!this.base) fail(`${PROGRAM} did not start`);
    this.#listen = new URL(this.base).host;
  }

  /** Sends a signal; `SIGKILL` is waited for. */
  async signal(name) {
    const gone = new Promise(resolve => this.#child.once('exit', resolve));
    this.#child.kill(name);
    if (name === 'SIGKILL') await gone;
  }

  async end() {
    if (this.#child.exitCode === null && this.#child.signalCode === null) await this.signal('SIGKILL');
    rmSync(this.#data, { recursive: true, force: true });
  }
}
