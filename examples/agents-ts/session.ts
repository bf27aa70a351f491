// A session of the OpenAI Agents SDK whose history lives on a sessile server.
import type {
  AgentInputItem,
  Session,
  SessionHistoryTransactionArgs,
  SessionHistoryTransactionAwareSession,
} from '@openai/agents';

export interface SessileSessionOptions {
  /** Where the server is, for example http://127.0.0.1:8080 */
  baseUrl: string;
  /** Any string. The same id is the same history, in every process. */
  sessionId: string;
  /** Sent as a bearer token, if the server asks for one. */
  token?: string;
  /** How often a call is tried before its error is thrown. */
  attempts?: number;
  fetch?: typeof fetch;
}

export class SessileError extends Error {
  readonly status: number;
  readonly code: string | undefined;

  constructor(status: number, code: string | undefined, message: string) {
    super(message);
    this.name = 'SessileError';
    this.status = status;
    this.code = code;
  }
}

const FIRST_PAUSE_MS = 100;
const WORTH_ANOTHER_TRY = new Set([429, 502, 503, 504]);

export class SessileSession implements Session, SessionHistoryTransactionAwareSession {
  readonly sessionId: string;
  readonly #items: string;
  readonly #headers: Record<string, string>;
  readonly #attempts: number;
  readonly #fetch: typeof fetch;

  constructor(options: SessileSessionOptions) {
    const base = options.baseUrl.replace(/\/+$/, '');
    this.sessionId = options.sessionId;
    this.#items = `${base}/v1/sessions/${encodeURIComponent(options.sessionId)}/items`;
    this.#headers = options.token ? { authorization: `Bearer ${options.token}` } : {};
    this.#attempts = options.attempts ?? 4;
    this.#fetch = options.fetch ?? fetch;
  }

  async getSessionId(): Promise<string> {
    return this.sessionId;
  }

  async getItems(limit?: number): Promise<AgentInputItem[]> {
    const query = limit === undefined ? '' : `?limit=${limit}`;
    const { items } = await this.#call<{ items: AgentInputItem[] }>('GET', query);
    return items;
  }

  async addItems(items: AgentInputItem[]): Promise<void> {
    if (items.length > 0) await this.#call('POST', '', { items });
  }

  async popItem(): Promise<AgentInputItem | undefined> {
    const { item } = await this.#call<{ item: AgentInputItem | null }>('POST', '/pop');
    return item ?? undefined;
  }

  async clearSession(): Promise<void> {
    await this.#call('DELETE', '');
  }

  /** In one step: readers see the old history or the new one. */
  async replaceHistoryWithCompaction(items: AgentInputItem[]): Promise<void> {
    await this.#call('PUT', '', { items });
  }

  async applyHistoryTransaction({ operationId, transaction }: SessionHistoryTransactionArgs): Promise<void> {
    await this.#call('POST', '/transactions', { operationId, transaction });
  }

  /**
   * A lost answer leaves open whether the server did its work. Every try carries the key of
   * the first, so that the work is done once.
   */
  async #call<Answer>(method: string, path: string, body?: unknown): Promise<Answer> {
    const headers: Record<string, string> = { ...this.#headers };
    if (method !== 'GET') headers['idempotency-key'] = crypto.randomUUID();
    if (body !== undefined) headers['content-type'] = 'application/json';
    const request = { method, headers, body: body === undefined ? undefined : JSON.stringify(body) };
    for (let attempt = 1; ; attempt += 1) {
      const last = attempt >= this.#attempts;
      try {
        const response = await this.#fetch(this.#items + path, request);
        const text = await response.text();
        if (response.ok) return (text === '' ? undefined : JSON.parse(text)) as Answer;
        if (last || !WORTH_ANOTHER_TRY.has(response.status)) throw problem(response.status, text);
      } catch (error) {
        if (last || error instanceof SessileError) throw error;
      }
      await new Promise(resolve => setTimeout(resolve, FIRST_PAUSE_MS * 2 ** (attempt - 1)));
    }
  }
}

function problem(status: number, text: string): SessileError {
  try {
    const body = JSON.parse(text);
    const { code, message } = body.error ?? { code: body.code, message: body.detail ?? body.title };
    return new SessileError(status, code, message ?? text);
  } catch {
    return new SessileError(status, undefined, text.slice(0, 200));
  }
}
