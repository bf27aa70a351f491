import react from '@vitejs/plugin-react';
import { defineConfig } from 'vite';

// The page asks for /api on its own origin, and the server is reached through it.
const proxy = { '/api': { target: process.env.SESSILE_URL ?? 'http://127.0.0.1:8080', ws: true } };

export default defineConfig({
  base: './',
  plugins: [react()],
  server: { host: '127.0.0.1', proxy },
  preview: { host: '127.0.0.1', proxy },
});
