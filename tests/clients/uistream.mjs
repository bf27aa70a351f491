// The order and the fields of a UI message stream, as strictly as the oldest client that reads it.
import { Failure, check, fail } from './harness.mjs';

const PROVIDER = 'providerMetadata?';
const TOOL = ['toolCallId', 'toolName'];
const CALL_OPTIONS = ['providerExecuted?', 'dynamic?', 'title?'];

/** Chunk type -> fields; a question mark means the field may be absent. */
const FIELDS = {
  start: ['messageId', 'messageMetadata?'],
  'start-step': [],
  'finish-step': [],
  finish: ['finishReason?', 'messageMetadata?'],
  abort: ['reason?'],
  error: ['errorText'],
  'message-metadata': ['messageMetadata'],
  'text-start': ['id', PROVIDER],
  'text-delta': ['id', 'delta', PROVIDER],
  'text-end': ['id', PROVIDER],
  'reasoning-start': ['id', PROVIDER],
  'reasoning-delta': ['id', 'delta', PROVIDER],
  'reasoning-end': ['id', PROVIDER],
  'tool-input-start': [...TOOL, ...CALL_OPTIONS],
  'tool-input-delta': ['toolCallId', 'inputTextDelta'],
  'tool-input-available': [...TOOL, 'input', PROVIDER, ...CALL_OPTIONS],
  'tool-input-error': [...TOOL, 'input', 'errorText', PROVIDER, ...CALL_OPTIONS],
  'tool-output-available': ['toolCallId', 'output', 'providerExecuted?', 'dynamic?', 'preliminary?'],
  'tool-output-error': ['toolCallId', 'errorText', 'providerExecuted?', 'dynamic?'],
  'tool-approval-request': ['approvalId', 'toolCallId'],
  'tool-output-denied': ['toolCallId'],
  'source-url': ['sourceId', 'url', 'title?', PROVIDER],
  'source-document': ['sourceId', 'mediaType', 'title', 'filename?', PROVIDER],
  file: ['url', 'mediaType', PROVIDER],
  data: ['data', 'id?', 'transient?'],
};

const ANY_JSON = new Set(['input', 'output', 'data', 'messageMetadata']);
const FLAGS = new Set(['providerExecuted', 'dynamic', 'preliminary', 'transient']);
const REASONS = new Set(['stop', 'length', 'content-filter', 'tool-calls', 'error', 'other']);
const EARLY = new Set(['data', 'message-metadata', 'tool-output-available', 'tool-output-error', 'tool-output-denied']);
const LAST = new Set(['finish', 'abort', 'error']);

const kindOf = chunk => (/^data-./.test(chunk.type) ? 'data' : chunk.type);

function checkFields(chunk, at) {
  const allowed = FIELDS[kindOf(chunk)];
  if (!allowed) fail(`${at}: no client knows this type`);
  const names = allowed.map(field => field.replace('?', ''));
  for (const field of allowed) {
    if (!field.endsWith('?')) check(field in chunk, `${at}: ${field} is missing`);
  }
  for (const [key, value] of Object.entries(chunk)) {
    if (key === 'type') continue;
    check(names.includes(key), `${at}: ${key} does not belong here`);
    if (ANY_JSON.has(key)) continue;
    if (key === 'providerMetadata') {
      const flat = value === null || typeof value !== 'object'
        || Object.values(value).some(inner => inner === null || typeof inner !== 'object');
      check(!flat, `${at}: providerMetadata is not an object of objects`);
    } else if (FLAGS.has(key)) {
      check(typeof value === 'boolean', `${at}: ${key} is not a boolean`);
    } else {
      check(typeof value === 'string', `${at}: ${key} is not a string`);
    }
  }
}

/**
 * Follows one answer. A continuation may bring results for calls of an earlier answer,
 * so those are told by `earlierCalls`.
 */
export class StreamChecker {
  #position = 0;
  #inStep = false;
  #steps = 0;
  #open = new Set();
  #calls;
  #ended = null;

  constructor(earlierCalls = []) {
    this.#calls = new Map(earlierCalls.map(id => [id, 'earlier']));
  }

  push(chunk) {
    const at = `chunk ${this.#position} ${JSON.stringify(chunk).slice(0, 140)}`;
    check(chunk && typeof chunk.type === 'string', `${at}: no type`);
    checkFields(chunk, at);
    const kind = kindOf(chunk);
    if (this.#ended) return this.#afterEnd(kind, chunk, at);
    check((kind === 'start') === (this.#position === 0), `${at}: start must be first, and only first`);
    this.#position += 1;
    if (kind === 'start') {
      check(chunk.messageId !== '', `${at}: the message has no id`);
      return;
    }
    if (LAST.has(kind)) return this.#last(kind, chunk, at);
    if (kind === 'start-step') return this.#startStep(at);
    if (!this.#inStep) {
      check(EARLY.has(kind), `${at}: outside a step`);
      const between = this.#steps > 0 && kind.startsWith('tool-');
      check(!between, `${at}: results come before the first step or inside one`);
    }
    this.#item(kind, chunk, at);
  }

  end() {
    check(this.#position > 0, 'the stream is empty');
    check(this.#ended, 'the stream ends without finish, abort or error');
  }

  #startStep(at) {
    check(!this.#inStep, `${at}: the step before is open`);
    this.#inStep = true;
    this.#steps += 1;
  }

  #last(kind, chunk, at) {
    if (kind === 'finish') {
      check(!this.#inStep, `${at}: the last step is open`);
      const reason = chunk.finishReason;
      check(reason === undefined || REASONS.has(reason), `${at}: unknown reason`);
    }
    check(this.#open.size === 0, `${at}: open parts ${[...this.#open]}`);
    this.#ended = kind;
  }

  /** Clients stop reading at an error, but a step that was open may be closed in form. */
  #afterEnd(kind, chunk, at) {
    const stepEnd = kind === 'finish-step' && this.#inStep;
    const turnEnd = kind === 'finish' && !this.#inStep && chunk.finishReason === 'error';
    check(this.#ended === 'error' && (stepEnd || turnEnd), `${at}: comes after ${this.#ended}`);
    this.#inStep = false;
    if (turnEnd) this.#ended = 'finish';
  }

  #item(kind, chunk, at) {
    const block = /^(text|reasoning)-(start|delta|end)$/.exec(kind);
    if (block) return this.#block(`${block[1]} ${chunk.id}`, block[2], at);
    const call = this.#calls.get(chunk.toolCallId);
    switch (kind) {
      case 'finish-step':
        check(this.#open.size === 0, `${at}: open parts ${[...this.#open]}`);
        for (const [id, state] of this.#calls) {
          check(state !== 'input', `${at}: the input of ${id} never came`);
        }
        this.#inStep = false;
        break;
      case 'tool-input-start':
        check(!call, `${at}: the call exists`);
        this.#calls.set(chunk.toolCallId, 'input');
        break;
      case 'tool-input-delta':
        check(call === 'input', `${at}: no tool-input-start`);
        break;
      case 'tool-input-available':
        check(!call || call === 'input', `${at}: the call exists`);
        this.#calls.set(chunk.toolCallId, 'ready');
        break;
      case 'tool-input-error':
        check(!call || call === 'input', `${at}: the call exists`);
        this.#calls.set(chunk.toolCallId, 'done');
        break;
      case 'tool-approval-request':
        check(call === 'ready', `${at}: no call that waits`);
        this.#calls.set(chunk.toolCallId, 'asked');
        break;
      case 'tool-output-available':
      case 'tool-output-error':
        check(call === 'ready' || call === 'earlier', `${at}: no call that waits`);
        if (!chunk.preliminary) this.#calls.set(chunk.toolCallId, 'done');
        break;
      case 'tool-output-denied':
        check(call === 'earlier', `${at}: no call that was asked about`);
        this.#calls.set(chunk.toolCallId, 'done');
        break;
    }
  }

  #block(name, verb, at) {
    const open = this.#open.has(name);
    check(open === (verb !== 'start'), `${at}: ${open ? 'is open' : 'was not started'}`);
    if (verb === 'start') this.#open.add(name);
    if (verb === 'end') this.#open.delete(name);
  }
}

export function checkChunks(chunks, { cut = false, earlierCalls = [] } = {}) {
  const checker = new StreamChecker(earlierCalls);
  for (const chunk of chunks) checker.push(chunk);
  if (!cut) checker.end();
}

/** The chunks of an event stream; `cut` says that the reader left before its end. */
export function readEvents(body, { cut = false } = {}) {
  const events = body.replaceAll('\r\n', '\n').split('\n\n');
  const rest = events.pop();
  check(rest === '' || cut, `the stream ends inside an event: ${JSON.stringify(rest.slice(0, 80))}`);
  const chunks = [];
  let done = false;
  for (const event of events) {
    const data = [];
    for (const line of event.split('\n')) {
      if (line === '' || line.startsWith(':')) continue;
      const field = /^(data|id|event|retry):(?: ?)(.*)$/.exec(line);
      if (!field) fail(`odd line ${JSON.stringify(line.slice(0, 80))}`);
      if (field[1] === 'data') data.push(field[2]);
    }
    if (data.length === 0) continue;
    check(data.length === 1, 'a chunk is spread over several data lines');
    check(!done, 'data after [DONE]');
    if (data[0] === '[DONE]') {
      done = true;
      continue;
    }
    try {
      chunks.push(JSON.parse(data[0]));
    } catch {
      throw new Failure(`not JSON: ${data[0].slice(0, 80)}`);
    }
  }
  check(done || cut, 'no [DONE]');
  return chunks;
}

export function checkHeaders(headers) {
  const type = headers.get('content-type') ?? '';
  check(/^text\/event-stream\b/.test(type), `content-type is ${type}`);
  const version = headers.get('x-vercel-ai-ui-message-stream');
  check(version === 'v1', `x-vercel-ai-ui-message-stream is ${version}`);
  check(/no-cache|no-store/.test(headers.get('cache-control') ?? ''), 'caches may keep the stream');
}

export function checkAnswer(body, headers, options = {}) {
  checkHeaders(headers);
  const chunks = readEvents(body, options);
  checkChunks(chunks, options);
  return chunks;
}
