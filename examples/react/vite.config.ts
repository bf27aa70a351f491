import react from '@vitejs/plugin-react';
import { defineConfig, type ProxyOptions } from 'vite';

// The page asks for everything on its own origin, and the server is reached through it.
const server: ProxyOptions = {
  target: process.env.SESSILE_URL ?? 'http://127.0.0.1:8080',
  ws: true,
  configure(proxy) {
    // A server that dies in mid-answer ends the answer here too; left alone, the page would wait for ever.
    proxy.on('proxyRes', (answer, _request, response) => {
      answer.on('close', () => {
        if (!answer.complete) response.destroy();
      });
    });
  },
};
const proxy = { '/api': server, '/v1': server };

export default defineConfig({
  base: './',
  plugins: [react()],
  server: { host: '127.0.0.1', proxy },
  preview: { host: '127.0.0.1', proxy },
});
