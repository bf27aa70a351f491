// The lines of the data stream protocol, version 1, as AI SDK 4 reads them.
import { check, fail } from './harness.mjs';

const REASONS = new Set(['stop', 'length', 'content-filter', 'tool-calls', 'error', 'other', 'unknown']);
const isObject = value => value !== null && typeof value === 'object' && !Array.isArray(value);
const isText = value => typeof value === 'string';

/** Line code -> what its value must be. */
const VALUES = {
  0: isText,
  2: Array.isArray,
  3: isText,
  8: Array.isArray,
  9: value => isObject(value) && isText(value.toolCallId) && isText(value.toolName) && isObject(value.args),
  a: value => isObject(value) && isText(value.toolCallId) && 'result' in value,
  b: value => isObject(value) && isText(value.toolCallId) && isText(value.toolName),
  c: value => isObject(value) && isText(value.toolCallId) && isText(value.argsTextDelta),
  d: value => isObject(value) && REASONS.has(value.finishReason),
  e: value => isObject(value) && REASONS.has(value.finishReason) && typeof value.isContinued === 'boolean',
  f: value => isObject(value) && isText(value.messageId) && value.messageId !== '',
  g: isText,
  h: value => isObject(value) && isText(value.id) && isText(value.url),
  i: value => isObject(value) && isText(value.data),
  j: value => isObject(value) && isText(value.signature),
  k: value => isObject(value) && isText(value.data) && isText(value.mimeType),
};
const IN_STEP = new Set(['0', '9', 'b', 'c', 'g', 'h', 'i', 'j', 'k']);

export function readLines(body, { cut = false } = {}) {
  const lines = body.split('\n');
  const rest = lines.pop();
  check(rest === '' || cut, `the stream ends inside a line: ${JSON.stringify(rest.slice(0, 80))}`);
  return lines.filter(line => line !== '').map(line => {
    const match = /^([0-9a-k]):(.*)$/.exec(line);
    if (!match || !(match[1] in VALUES)) fail(`unknown line ${JSON.stringify(line.slice(0, 80))}`);
    let value;
    try {
      value = JSON.parse(match[2]);
    } catch {
      fail(`not JSON: ${line.slice(0, 80)}`);
    }
    check(VALUES[match[1]](value), `wrong value ${line.slice(0, 120)}`);
    return { code: match[1], value };
  });
}

/** `cut`: the reader left, or the turn was stopped, so steps and message may have no end. */
export function checkOrder(lines, { cut = false } = {}) {
  const calls = new Map();
  let inStep = false;
  let failed = false;
  let ended = false;
  lines.forEach(({ code, value }, index) => {
    const at = `line ${index} ${code}:${JSON.stringify(value).slice(0, 100)}`;
    check(!ended, `${at}: comes after d`);
    if (failed) return check(code === 'e' || code === 'd', `${at}: comes after the error`);
    if (IN_STEP.has(code)) check(inStep, `${at}: outside a step`);
    switch (code) {
      case 'f':
        check(!inStep, `${at}: the step before is open`);
        inStep = true;
        break;
      case 'e':
        check(inStep, `${at}: no open step`);
        inStep = false;
        break;
      case 'd':
        check(!inStep, `${at}: the last step is open`);
        ended = true;
        break;
      case '3':
        failed = true;
        break;
      case 'b':
        check(!calls.has(value.toolCallId), `${at}: the call exists`);
        calls.set(value.toolCallId, 'input');
        break;
      case 'c':
        check(calls.get(value.toolCallId) === 'input', `${at}: no b before it`);
        break;
      case '9':
        check([undefined, 'input'].includes(calls.get(value.toolCallId)), `${at}: the call exists`);
        calls.set(value.toolCallId, 'ready');
        break;
      case 'a':
        check(calls.get(value.toolCallId) === 'ready', `${at}: no 9 before it`);
        calls.set(value.toolCallId, 'done');
        break;
    }
  });
  check(ended || failed || cut, 'no d at the end');
}

export function checkDataHeaders(headers, chatId) {
  const type = headers.get('content-type') ?? '';
  check(/^text\/plain; *charset=utf-8$/i.test(type), `content-type is ${type}`);
  const version = headers.get('x-vercel-ai-data-stream');
  check(version === 'v1', `x-vercel-ai-data-stream is ${version}`);
  if (chatId) {
    const session = headers.get('x-session-id');
    check(session === chatId, `x-session-id is ${session}`);
  }
}
