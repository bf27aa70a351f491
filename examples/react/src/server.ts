// What the page asks of the server, and how long it waits.
import { DefaultChatTransport, type UIMessage } from 'ai';

/** The server says something every 25 seconds, if only that it is there. */
const SILENCE_MS = Number(import.meta.env.VITE_SILENCE_MS ?? 60_000);
const ANSWER_MS = 10_000;

export interface History {
  messages: UIMessage[];
  /** A turn is running; its message is left out and comes with the stream. */
  active?: boolean;
}

const path = (chatId: string, what: string) => `/api/chat/${encodeURIComponent(chatId)}/${what}`;

async function ask(chatId: string, what: string, method: string): Promise<Response> {
  const response = await fetch(path(chatId, what), { method, signal: AbortSignal.timeout(ANSWER_MS) });
  if (!response.ok) throw new Error(explain(await response.text()));
  return response;
}

export const loadHistory = async (chatId: string): Promise<History> => (await ask(chatId, 'messages', 'GET')).json();

/** Closing the connection stops nothing: the answer goes on and is stored. This ends it. */
export const stopTurn = async (chatId: string): Promise<void> => void await ask(chatId, 'stop', 'POST');

/** Takes a stream on which nothing comes any more for one that broke, so that the page looks for the answer again. */
const patientFetch: typeof fetch = async (input, init) => {
  const response = await fetch(input, init);
  if (response.status !== 200 || !response.body) return response;
  const reader = response.body.getReader();
  const body = new ReadableStream<Uint8Array>({
    async pull(controller) {
      let timer: ReturnType<typeof setTimeout> | undefined;
      const silence = new Promise<never>((_, reject) => {
        timer = setTimeout(() => reject(new TypeError('network: the server fell silent')), SILENCE_MS);
      });
      try {
        const { done, value } = await Promise.race([reader.read(), silence]);
        if (done) controller.close();
        else controller.enqueue(value);
      } catch (error) {
        controller.error(error);
        reader.cancel().catch(() => {});
      } finally {
        clearTimeout(timer);
      }
    },
    cancel: reason => reader.cancel(reason),
  });
  return new Response(body, response);
};

export const transport = new DefaultChatTransport<UIMessage>({ fetch: patientFetch });

/** The body of a refused request is what the hook gives as its message. */
export function explain(message: string): string {
  try {
    return JSON.parse(message).error.message;
  } catch {
    return message.includes('fetch') || message === '' ? 'The server cannot be reached.' : message;
  }
}
