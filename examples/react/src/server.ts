// What the page asks of the server beside the streams of the hook.
import type { UIMessage } from 'ai';

export interface History {
  messages: UIMessage[];
  /** A turn is running; its message is left out and comes with the stream. */
  active?: boolean;
}

const path = (chatId: string, what: string) => `/api/chat/${encodeURIComponent(chatId)}/${what}`;

export async function loadHistory(chatId: string): Promise<History> {
  const response = await fetch(path(chatId, 'messages'));
  if (!response.ok) throw new Error(explain(await response.text()));
  return response.json();
}

/** Closing the connection stops nothing: the answer goes on and is stored. This ends it. */
export async function stopTurn(chatId: string): Promise<void> {
  const response = await fetch(path(chatId, 'stop'), { method: 'POST' });
  if (!response.ok) throw new Error(explain(await response.text()));
}

/** The body of a refused request is what the hook gives as its message. */
export function explain(message: string): string {
  try {
    return JSON.parse(message).error.message;
  } catch {
    return message || 'The server did not say what went wrong.';
  }
}
