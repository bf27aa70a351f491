// A chat session as a Durable Object: the same routes as sessile, one object and one SQLite file per session.
//
// What it does is what a product on Durable Objects does: rows in SQLite, a frame to every open socket, an answer that
// the runtime holds back until the write is on disk. What it leaves out, and sessile does: an event log with sequence
// numbers, idempotency keys, resuming a socket. The comparison leans to this side.
import { DurableObject } from "cloudflare:workers";

const SCHEMA = `
  CREATE TABLE IF NOT EXISTS messages (
    id TEXT PRIMARY KEY,
    role TEXT NOT NULL,
    content TEXT NOT NULL,
    parts TEXT,
    created_at INTEGER NOT NULL
  );
  CREATE INDEX IF NOT EXISTS messages_by_time ON messages (created_at);
`;

const COLUMNS = "id, role, content, parts, created_at AS createdAt";

export class ChatSession extends DurableObject {
  #db;

  constructor(state, env) {
    super(state, env);
    this.#db = state.storage.sql;
    this.#db.exec(SCHEMA);
  }

  append({ role, content, parts = null }) {
    const message = { id: crypto.randomUUID(), role, content, parts, createdAt: Date.now() };
    this.#db.exec(
      "INSERT INTO messages (id, role, content, parts, created_at) VALUES (?1, ?2, ?3, ?4, ?5)",
      message.id, role, content, parts, message.createdAt,
    );
    const sockets = this.ctx.getWebSockets();
    if (sockets.length > 0) {
      const frame = JSON.stringify({ type: "message", message });
      for (const socket of sockets) socket.send(frame);
    }
    return message;
  }

  page(limit, before) {
    const rows = before === null
      ? this.#db.exec(`SELECT ${COLUMNS} FROM messages ORDER BY created_at DESC LIMIT ?1`, limit)
      : this.#db.exec(
          `SELECT ${COLUMNS} FROM messages
           WHERE created_at < (SELECT created_at FROM messages WHERE id = ?2)
           ORDER BY created_at DESC LIMIT ?1`,
          limit, before,
        );
    return rows.toArray().reverse();
  }

  async fetch() {
    const { 0: client, 1: server } = new WebSocketPair();
    this.ctx.acceptWebSocket(server);
    return new Response(null, { status: 101, webSocket: client });
  }
}

export default {
  async fetch(request, { SESSIONS }) {
    const { pathname, searchParams } = new URL(request.url);
    if (pathname === "/livez") return new Response("ok");

    const route = /^\/sessions\/([^/]+)\/(messages|websocket)$/.exec(pathname);
    if (route === null) return new Response("no such route", { status: 404 });
    const session = SESSIONS.get(SESSIONS.idFromName(decodeURIComponent(route[1])));

    if (route[2] === "websocket") return session.fetch(request);
    if (request.method === "POST") {
      return Response.json(await session.append(await request.json()), { status: 201 });
    }
    const limit = Number(searchParams.get("limit") ?? 25);
    return Response.json(await session.page(limit, searchParams.get("before")));
  },
};
