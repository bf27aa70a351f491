import { useChat } from '@ai-sdk/react';
import { lastAssistantMessageIsCompleteWithApprovalResponses, type UIMessage } from 'ai';
import { useEffect, useRef, useState } from 'react';
import { Composer } from './Composer';
import { Message } from './Message';
import { explain, loadHistory, stopTurn, transport, type History } from './server';
import { useFollow } from './useFollow';
import { useOthers } from './useOthers';

const RECONNECT_MS = 1000;
/** What comes together is taken over together. */
const GATHER_MS = 50;
const IDEAS = [
  ['A slow answer', '!slow 120 60'],
  ['Think first', '!reason The user wants to see me think.\nNow I answer.'],
  ['Use a tool', '!tool add {"a":19,"b":23}\nThe tool has the answer.'],
  ['Ask me first', '!approve deploy {"to":"production"}'],
];

export function Chat({ chatId, past }: { chatId: string; past: UIMessage[] }) {
  const [lost, setLost] = useState(0);
  const [stopError, setStopError] = useState<string>();
  const chat = useChat({
    id: chatId,
    messages: past,
    transport,
    resume: true,
    sendAutomaticallyWhen: lastAssistantMessageIsCompleteWithApprovalResponses,
    onFinish: ({ isDisconnect }) => setLost(times => (isDisconnect ? times + 1 : 0)),
  });
  const { messages, status, error } = chat;
  const busy = status === 'submitted' || status === 'streaming';
  useFollow(messages);
  const typing = useRef<HTMLTextAreaElement>(null);

  // What was said here last and did not reach the server. Its id makes it safe to say it again.
  const shown = useRef(messages);
  shown.current = messages;
  const isUnsent = (now: History) => {
    const last = shown.current.at(-1);
    return last?.role === 'user' && !now.messages.some(message => message.id === last.id);
  };
  const retry = () => void (messages.at(-1)?.role === 'user' ? chat.sendMessage() : chat.regenerate());

  // The answer goes on without us: find it again, or its end in the history.
  useEffect(() => {
    if (lost === 0) return;
    const timer = setTimeout(async () => {
      try {
        const now = await loadHistory(chatId);
        if (now.active) return await chat.resumeStream();
        chat.clearError();
        setLost(0);
        if (isUnsent(now)) return void chat.sendMessage();
        chat.setMessages(now.messages);
      } catch {
        setLost(times => times + 1);
      }
    }, RECONNECT_MS);
    return () => clearTimeout(timer);
  }, [lost]);

  // What others say, or what was said while nobody listened: take it over, unless an answer is being read here.
  const [news, setNews] = useState(0);
  const occupied = useRef(false);
  occupied.current = busy || lost > 0;
  useOthers(chatId, () => setNews(times => times + 1));
  useEffect(() => {
    if (news === 0 || busy || lost > 0) return;
    const timer = setTimeout(async () => {
      const now = await loadHistory(chatId).catch(() => undefined);
      if (!now || occupied.current || isUnsent(now)) return;
      chat.setMessages(now.messages);
      if (now.active) await chat.resumeStream();
    }, GATHER_MS);
    return () => clearTimeout(timer);
  }, [news, busy, lost]);

  const send = (text: string) => {
    occupied.current = true;
    setStopError(undefined);
    void chat.sendMessage({ text });
    typing.current?.focus();
  };
  const stop = () => stopTurn(chatId).catch(reason => setStopError(explain(String(reason.message))));
  const waiting = status === 'submitted' && messages.at(-1)?.role === 'user';

  return (
    <>
      <main>
        {messages.length === 0 && !busy && <Ideas send={send} />}
        <ol className="messages" role="log" aria-label="Conversation" aria-busy={busy}>
          {messages.map(message => (
            <Message
              key={message.id}
              message={message}
              growing={busy && message === messages.at(-1)}
              approve={(id, approved) => void chat.addToolApprovalResponse({ id, approved })}
            />
          ))}
          {waiting && <li className="assistant" aria-label="Waiting for the answer"><span className="dots" /></li>}
        </ol>
        {lost === 0 && !busy && cutOff(messages.at(-1)) && (
          <p className="notice" role="status">
            <span>The server stopped in the middle of this answer.</span>
            <button type="button" className="quiet" onClick={() => void chat.regenerate()}>Answer again</button>
          </p>
        )}
        {lost > 0 && <p className="notice" role="status">The connection was lost. Looking for the conversation …</p>}
        {error && lost === 0 && (
          <p className="notice error" role="alert">
            <span>{explain(error.message)}</span>
            <button type="button" className="quiet" onClick={retry}>Try again</button>
          </p>
        )}
        {stopError && <p className="notice error" role="alert">The answer could not be stopped: {stopError}</p>}
      </main>
      <Composer inputRef={typing} busy={busy} send={send} stop={stop} />
    </>
  );
}

/** Whether the server died while it wrote the message; what it had said is kept. */
function cutOff(message: UIMessage | undefined): boolean {
  return (message?.metadata as { status?: string } | undefined)?.status === 'interrupted';
}

function Ideas({ send }: { send: (text: string) => void }) {
  return (
    <section className="ideas">
      <h2>What shall we talk about?</h2>
      <p>Reload the page or open it in a second tab while an answer runs: nothing is lost, nothing comes twice.</p>
      <ul>
        {IDEAS.map(([title, text]) => (
          <li key={title}>
            <button type="button" onClick={() => send(text)}>
              <b>{title}</b>
              <code>{text.split('\n')[0]}</code>
            </button>
          </li>
        ))}
      </ul>
    </section>
  );
}
