// One raw connection that is cut after so many bytes, and what can be told from the bytes before.
import net from 'node:net';
import { check, Failure } from '../harness.mjs';

const SILENCE_MS = 30_000;

/** Reads until the server ends the answer or `limit` bytes have come; then the line is cut. */
export function readUntilCut(server, request, limit, isComplete, abruptly) {
  return new Promise((resolve, reject) => {
    const socket = net.connect(server.port, server.host);
    const pieces = [];
    let count = 0;
    const finish = cut => {
      if (abruptly) socket.resetAndDestroy();
      else socket.destroy();
      resolve({ bytes: Buffer.concat(pieces).subarray(0, limit), cut });
    };
    socket.setTimeout(SILENCE_MS, () => {
      socket.destroy();
      reject(new Failure(`${SILENCE_MS} ms of silence after ${count} bytes`));
    });
    socket.on('connect', () => socket.write(request));
    socket.on('error', reject);
    socket.on('end', () => finish(false));
    socket.on('data', piece => {
      pieces.push(piece);
      count += piece.length;
      if (count >= limit) finish(true);
      else if (isComplete(piece, pieces)) finish(false);
    });
  });
}

/** The body of an HTTP/1.1 answer as far as it came; status 0 if its head did not come whole. */
export function httpAnswer(bytes) {
  const end = bytes.indexOf('\r\n\r\n');
  if (end < 0) return { status: 0, body: Buffer.alloc(0), ended: false };
  const head = bytes.subarray(0, end).toString();
  const status = Number(/^HTTP\/1\.1 (\d{3})/.exec(head)?.[1]);
  check(status, `odd head ${head.slice(0, 60)}`);
  const rest = bytes.subarray(end + 4);
  if (/^transfer-encoding: *chunked/im.test(head)) return { status, ...unchunked(rest) };
  return { status, body: rest, ended: /^content-length: *0\s*$/im.test(head) };
}

function unchunked(bytes) {
  const parts = [];
  let position = 0;
  let ended = false;
  for (;;) {
    const lineEnd = bytes.indexOf('\r\n', position);
    if (lineEnd < 0) break;
    const size = parseInt(bytes.subarray(position, lineEnd).toString(), 16);
    check(size >= 0, `odd chunk size at ${position}`);
    if (size === 0) {
      ended = true;
      break;
    }
    parts.push(bytes.subarray(lineEnd + 2, lineEnd + 2 + size));
    position = lineEnd + 2 + size + 2;
  }
  return { body: Buffer.concat(parts), ended };
}

/** The whole text messages among the frames of a WebSocket. */
export function webSocketMessages(bytes) {
  const messages = [];
  let parts = [];
  let position = 0;
  while (position + 2 <= bytes.length) {
    const [first, second] = [bytes[position], bytes[position + 1]];
    check((second & 0x80) === 0, 'the server masks its frames');
    let size = second & 0x7f;
    let start = position + 2;
    if (size === 126) {
      if (start + 2 > bytes.length) break;
      size = bytes.readUInt16BE(start);
      start += 2;
    } else if (size === 127) {
      if (start + 8 > bytes.length) break;
      size = Number(bytes.readBigUInt64BE(start));
      start += 8;
    }
    if (start + size > bytes.length) break;
    const opcode = first & 0x0f;
    check([0, 1, 8, 9, 10].includes(opcode), `opcode ${opcode}`);
    if (opcode <= 1) {
      parts.push(bytes.subarray(start, start + size));
      if (first & 0x80) {
        messages.push(Buffer.concat(parts).toString());
        parts = [];
      }
    }
    position = start + size;
  }
  return messages;
}

export function webSocketText(text) {
  const payload = Buffer.from(text);
  check(payload.length < 65_536, 'the frame is too big');
  const head = payload.length < 126
    ? Buffer.from([0x81, 0x80 | payload.length])
    : Buffer.from([0x81, 0x80 | 126, payload.length >> 8, payload.length & 0xff]);
  // A mask of zeros is a mask: the payload stays readable in a dump.
  return Buffer.concat([head, Buffer.alloc(4), payload]);
}
