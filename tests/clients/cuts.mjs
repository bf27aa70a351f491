// Readers whose line is cut at random bytes while turns run: what they put together must be exact.
// usage: node cuts.mjs <base-url> [--count 10000] [--seed N] [events|lines|socket ...]
import { check, fail, finish, newId, readArguments, run, same } from './harness.mjs';
import { readers } from './cuts/readers.mjs';
import { readUntilCut } from './cuts/socket.mjs';

const CHATS_AT_ONCE = 6;
const READERS_PER_CHAT = 4;
const WORDS = 150;
const PAUSE_MS = 20;
const TURN_MS = WORDS * PAUSE_MS;
const LAST_CUT_MS = TURN_MS * 0.8;
const LIMIT_MS = 600_000;
const TEXT = Array.from({ length: WORDS }, (_, i) => `w${i} `).join('');

const { base, only, options } = readArguments({
  count: { type: 'string', default: '10000' },
  seed: { type: 'string', default: String(Date.now() % 1_000_000) },
});
const total = Number(options.count);
const { hostname, port } = new URL(base);
const server = { host: hostname, port: Number(port) };
const protocols = Object.keys(readers).filter(name => only.length === 0 || only.includes(name));
const tally = Object.fromEntries(Object.keys(readers).map(name => [name, { cuts: 0, whole: 0, late: 0 }]));
let cuts = 0;

function randomFrom(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}
const random = randomFrom(Number(options.seed));

async function startTurn(id) {
  const message = { id: newId('m'), role: 'user', parts: [{ type: 'text', text: `!slow ${WORDS} ${PAUSE_MS}` }] };
  const response = await fetch(`${base}/api/chat`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ id, messages: [message], trigger: 'submit-message' }),
  });
  check(response.status === 200, `POST: ${response.status}`);
  await response.body.cancel();
}

/** Every reading shows one log: what two of them both saw must be the same. */
function compare(logs, reader, records, what) {
  const known = (logs[reader.log] ??= []);
  records.forEach((record, index) => {
    if (known[index] === undefined) known[index] = record;
    else same(record, known[index], `${what}, record ${index} on another reading`);
  });
}

async function followWithCuts(id, name, logs, started) {
  const reader = readers[name];
  const request = reader.request(server, id);
  let longest = 400;
  for (;;) {
    const lastReading = cuts >= total || Date.now() - started > LAST_CUT_MS;
    const limit = lastReading ? Infinity : 1 + Math.floor(random() * (longest + 300));
    const asked = Date.now();
    const { bytes, cut } = await readUntilCut(server, request, limit, reader.seemsComplete, random() < 0.5);
    const { records, text, complete, idle } = reader.read(bytes);
    if (idle) check(asked - started > TURN_MS * 0.9, `${name}: nothing runs, says the server in mid-turn`);
    longest = Math.max(longest, bytes.length);
    compare(logs, reader, records, name);
    check(TEXT.startsWith(text), `${name}: after ${bytes.length} bytes the text is ${JSON.stringify(text.slice(-80))}`);
    if (cut) {
      cuts += 1;
      tally[name].cuts += 1;
      continue;
    }
    if (idle) tally[name].late += 1;
    else if (!complete) fail(`${name}: the server ended the answer in the middle, after ${bytes.length} bytes`);
    else {
      same(text, TEXT, `${name}: the whole text`);
      tally[name].whole += 1;
    }
    return;
  }
}

async function storedText(id) {
  const response = await fetch(`${base}/api/chat/${encodeURIComponent(id)}/messages`);
  const { messages, active } = await response.json();
  check(!active, 'the turn is over for its readers, but not for the history');
  same(messages.length, 2, 'stored messages');
  return messages[1].parts.filter(part => part.type === 'text').map(part => part.text).join('');
}

async function oneChatAfterAnother() {
  while (cuts < total) {
    const id = newId('cuts');
    const logs = {};
    const started = Date.now();
    await startTurn(id);
    const following = protocols.flatMap(name =>
      Array.from({ length: READERS_PER_CHAT }, () => followWithCuts(id, name, logs, started)));
    await Promise.all(following);
    same(await storedText(id), TEXT, 'the stored text');
  }
}

const title = `cuts (${total}, seed ${options.seed})`;
const began = Date.now();
await run('', {
  [title]: async () => {
    await Promise.all(Array.from({ length: CHATS_AT_ONCE }, oneChatAfterAnother));
    for (const name of protocols) check(tally[name].whole > 0, `${name}: no reader saw the whole text`);
  },
}, [], LIMIT_MS);
const seconds = ((Date.now() - began) / 1000).toFixed(1);
console.log(`${cuts} cuts in ${seconds} s: ${JSON.stringify(tally)}`);
finish();
