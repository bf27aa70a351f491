// Serves the built page and passes /api on to the server; it can lose the network.
import { createReadStream, existsSync, statSync } from 'node:fs';
import http from 'node:http';
import net from 'node:net';
import { extname, join, normalize } from 'node:path';

const TYPES = { '.html': 'text/html', '.js': 'text/javascript', '.css': 'text/css' };

export async function servePage(folder, target) {
  const passing = new Set();
  let reachable = true;

  function pass(request, response) {
    if (!reachable) return request.socket.destroy();
    const url = new URL(request.url, target);
    const headers = { ...request.headers, host: url.host };
    const upstream = http.request(url, { method: request.method, headers }, answer => {
      response.writeHead(answer.statusCode, answer.headers);
      response.flushHeaders();
      answer.pipe(response);
    });
    const line = { request, upstream };
    passing.add(line);
    response.on('close', () => {
      passing.delete(line);
      upstream.destroy();
    });
    upstream.on('error', () => response.destroy());
    request.pipe(upstream);
  }

  const server = http.createServer((request, response) => {
    if (/^\/(api|v1)\//.test(request.url)) return pass(request, response);
    const path = normalize(new URL(request.url, 'http://page').pathname);
    const file = join(folder, path === '/' ? 'index.html' : path);
    if (!file.startsWith(folder) || !existsSync(file) || !statSync(file).isFile()) {
      response.writeHead(404).end();
      return;
    }
    response.writeHead(200, { 'content-type': TYPES[extname(file)] ?? 'application/octet-stream' });
    createReadStream(file).pipe(response);
  });
  server.on('upgrade', (request, socket, first) => {
    const { hostname, port } = new URL(target);
    if (!reachable) return socket.destroy();
    const upstream = net.connect(port, hostname);
    const line = { request };
    passing.add(line);
    const lines = [`${request.method} ${request.url} HTTP/1.1`];
    for (let i = 0; i < request.rawHeaders.length; i += 2) lines.push(`${request.rawHeaders[i]}: ${request.rawHeaders[i + 1]}`);
    upstream.write(`${lines.join('\r\n')}\r\n\r\n`);
    upstream.write(first);
    socket.pipe(upstream).pipe(socket);
    for (const end of [socket, upstream]) {
      end.on('error', () => {}).on('close', () => {
        passing.delete(line);
        socket.destroy();
        upstream.destroy();
      });
    }
  });
  await new Promise(resolve => server.listen(0, '127.0.0.1', resolve));

  return {
    url: `http://127.0.0.1:${server.address().port}/`,
    loseNetwork() {
      reachable = false;
      for (const { request } of passing) request.socket.destroy();
    },
    findNetwork() {
      reachable = true;
    },
  };
}
