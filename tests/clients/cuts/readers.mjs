// How each protocol asks for the running turn and what a piece of its answer says.
import { check, fail } from '../harness.mjs';
import { httpAnswer, webSocketMessages, webSocketText } from './socket.mjs';

const NOTHING = { records: [], text: '', idle: false, complete: false };

const get = (server, path) =>
  `GET ${path} HTTP/1.1\r\nHost: ${server.host}:${server.port}\r\nConnection: close\r\nAccept: */*\r\n\r\n`;

const joined = chunks =>
  chunks.filter(chunk => chunk.type === 'text-delta').map(chunk => chunk.delta).join('');

/** `records` is the log of the turn as this protocol shows it: the same on every reading. */
const events = {
  log: 'chunks',
  request: (server, id) => get(server, `/api/chat/${encodeURIComponent(id)}/stream`),
  seemsComplete: piece => piece.includes('0\r\n\r\n'),
  read(bytes) {
    const { status, body } = httpAnswer(bytes);
    if (status === 0) return NOTHING;
    if (status === 204) return { ...NOTHING, idle: true };
    check(status === 200, `GET stream: ${status}`);
    const data = body.toString().split('\n\n').slice(0, -1)
      .flatMap(event => event.split('\n'))
      .filter(line => line.startsWith('data:'))
      .map(line => line.slice(5).trim());
    const complete = data.at(-1) === '[DONE]';
    const chunks = (complete ? data.slice(0, -1) : data).map(json => JSON.parse(json));
    return { records: chunks.map(chunk => JSON.stringify(chunk)), text: joined(chunks), idle: false, complete };
  },
};

const lines = {
  log: 'lines',
  request: (server, id) => get(server, `/api/chat?chatId=${id}`),
  seemsComplete: piece => piece.includes('0\r\n\r\n'),
  read(bytes) {
    const { status, body, ended } = httpAnswer(bytes);
    if (status === 0) return NOTHING;
    check(status === 200, `GET ?chatId: ${status}`);
    const records = body.toString().split('\n').slice(0, -1).filter(line => line !== '');
    const text = records.filter(line => line.startsWith('0:')).map(line => JSON.parse(line.slice(2))).join('');
    const complete = records.some(line => line.startsWith('d:'));
    const idle = body.length === 0 && ended;
    return { records, text, idle, complete };
  },
};

const socket = {
  log: 'chunks',
  request: (server, id) => Buffer.concat([
    Buffer.from(
      `GET /api/chat/ws HTTP/1.1\r\nHost: ${server.host}:${server.port}\r\nConnection: Upgrade\r\n`
      + 'Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: c2Vzc2lsZSBpcyByZWFkeQ==\r\n\r\n',
    ),
    webSocketText(JSON.stringify({ type: 'resume', requestId: 'r', id, headers: {}, body: {} })),
  ]),
  seemsComplete: (_, pieces) => /"type":"(end|no-active|error)"/.test(Buffer.concat(pieces.slice(-2)).toString()),
  read(bytes) {
    const end = bytes.indexOf('\r\n\r\n');
    if (end < 0) return NOTHING;
    check(bytes.subarray(0, 12).toString() === 'HTTP/1.1 101', `upgrade: ${bytes.subarray(0, 40)}`);
    const chunks = [];
    const result = { ...NOTHING };
    webSocketMessages(bytes.subarray(end + 4)).map(text => JSON.parse(text)).forEach((frame, index) => {
      check(frame.requestId === 'r', `frame for ${frame.requestId}`);
      if (frame.type === 'no-active') result.idle = true;
      else if (frame.type === 'end') result.complete = true;
      else if (frame.type === 'start') check(index === 0, 'start is not the first frame');
      else if (frame.type === 'chunk') {
        check(frame.sequence === chunks.length, `sequence ${frame.sequence}, want ${chunks.length}`);
        chunks.push(frame.chunk);
      } else fail(`frame ${JSON.stringify(frame).slice(0, 100)}`);
    });
    return { ...result, records: chunks.map(chunk => JSON.stringify(chunk)), text: joined(chunks) };
  },
};

export const readers = { events, lines, socket };
