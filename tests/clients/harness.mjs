// Runs named scenarios against a server and prints one line for each.
import { parseArgs } from 'node:util';

export class Failure extends Error {}
export class Skipped extends Error {}

export const fail = why => { throw new Failure(why); };
export const skip = why => { throw new Skipped(why); };
export const check = (condition, why) => { if (!condition) fail(why); };
export const sleep = ms => new Promise(resolve => setTimeout(resolve, ms));

const shown = value => {
  const text = JSON.stringify(value) ?? String(value);
  return text.length > 600 ? `${text.slice(0, 600)}...` : text;
};

/** Exact: the order of keys counts. */
export function same(got, want, what) {
  if (JSON.stringify(got) !== JSON.stringify(want)) fail(`${what}: got ${shown(got)}, want ${shown(want)}`);
}

/** As JSON values: the order of keys does not count, keys without a value do not either. */
export const sameValue = (got, want, what) => same(sorted(got), sorted(want), what);

function sorted(value) {
  if (Array.isArray(value)) return value.map(sorted);
  if (value === null || typeof value !== 'object') return value;
  const keys = Object.keys(value).filter(key => value[key] !== undefined).sort();
  return Object.fromEntries(keys.map(key => [key, sorted(value[key])]));
}

export async function until(condition, what, limitMs = 10_000) {
  const deadline = Date.now() + limitMs;
  for (;;) {
    const value = await condition();
    if (value) return value;
    if (Date.now() > deadline) fail(`waited ${limitMs} ms for ${what}`);
    await sleep(10);
  }
}

export async function refused(promise, what) {
  try {
    await promise;
  } catch (error) {
    return error;
  }
  return fail(`${what} was accepted`);
}

function within(promise, limitMs) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Failure(`not done after ${limitMs} ms`)), limitMs);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

let nextId = 0;
export const newId = (prefix = 'client') =>
  `${prefix}-${process.pid}-${Date.now().toString(36)}-${nextId++}`;

/** Reads `<base-url> [--option value] [scenario ...]`. */
export function readArguments(options = {}) {
  const { values, positionals } = parseArgs({ options, allowPositionals: true });
  const [base, ...only] = positionals;
  if (!base) {
    console.error(`usage: node ${process.argv[1].split('/').at(-1)} <base-url> [scenario ...]`);
    process.exit(2);
  }
  return { base: base.replace(/\/$/, ''), only, options: values };
}

const LIMIT_MS = 40_000;
let failures = 0;
let chosen = 0;

export async function run(prefix, scenarios, only, limitMs = LIMIT_MS) {
  for (const [title, scenario] of Object.entries(scenarios)) {
    const name = prefix ? `${prefix} ${title}` : title;
    if (only.length && !only.includes(title)) continue;
    chosen += 1;
    try {
      await within(scenario(), limitMs);
      console.log(`ok ${name}`);
    } catch (error) {
      if (error instanceof Skipped) {
        console.log(`skip ${name}: ${error.message}`);
        continue;
      }
      failures += 1;
      const why = error instanceof Failure ? error.message : error?.stack ?? String(error);
      console.log(`FAIL ${name}: ${why.replaceAll('\n', ' | ')}`);
    }
  }
}

/** Ends the process: sockets and pending timers of a client library must not hold it. */
export function finish() {
  if (chosen === 0) console.log('FAIL: no scenario of that name');
  process.exit(failures > 0 || chosen === 0 ? 1 : 0);
}
