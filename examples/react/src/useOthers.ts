// Hears what happens in the chat, whoever does it: a socket of the session, opened again when it breaks.
import { useEffect, useRef } from 'react';

const PAUSE_MS_MAX = 5_000;
/** The pieces of an answer come with its stream; these frames change nothing that the history shows. */
const PIECES = new Set(['ready', 'part-delta', 'part-update', 'typing', 'pong']);

/** Calls `changed` when something was said, and when it may have been, since nobody listened. */
export function useOthers(chatId: string, changed: () => void) {
  const latest = useRef(changed);
  latest.current = changed;
  useEffect(() => {
    let socket: WebSocket;
    let timer: ReturnType<typeof setTimeout>;
    let pause = 500;
    let lost = false;
    const open = () => {
      socket = new WebSocket(new URL(`/v1/sessions/${encodeURIComponent(chatId)}/websocket`, location.href));
      socket.onopen = () => {
        pause = 500;
        if (lost) latest.current();
        lost = false;
      };
      socket.onmessage = ({ data }) => {
        if (!PIECES.has(JSON.parse(data).type)) latest.current();
      };
      socket.onclose = () => {
        // Also where the chat does not exist yet; the first message makes it.
        lost = true;
        timer = setTimeout(open, pause);
        pause = Math.min(2 * pause, PAUSE_MS_MAX);
      };
    };
    open();
    return () => {
      clearTimeout(timer);
      socket.onclose = null;
      socket.close();
    };
  }, [chatId]);
}
