// Which chat is shown: its id is the hash of the address, so a reload or a second tab finds it again.
import { generateId } from 'ai';
import { useEffect, useState } from 'react';
import { Chat } from './Chat';
import { explain, loadHistory, type History } from './server';

const RETRY_MS = 2000;

function useChatId(): string {
  const [chatId, setChatId] = useState(currentId);
  useEffect(() => {
    const follow = () => setChatId(currentId());
    addEventListener('hashchange', follow);
    return () => removeEventListener('hashchange', follow);
  }, []);
  return chatId;
}

function currentId(): string {
  if (location.hash.length < 2) history.replaceState(null, '', `#${generateId()}`);
  return decodeURIComponent(location.hash.slice(1));
}

export function App() {
  const chatId = useChatId();
  return (
    <div className="page">
      <header>
        <h1>sessile</h1>
        <button type="button" className="quiet" onClick={() => { location.hash = generateId(); }}>
          New chat
        </button>
      </header>
      <Loader key={chatId} chatId={chatId} />
    </div>
  );
}

function Loader({ chatId }: { chatId: string }) {
  const [past, setPast] = useState<History>();
  const [error, setError] = useState<string>();
  useEffect(() => {
    let shown = true;
    let timer: ReturnType<typeof setTimeout>;
    const load = () => loadHistory(chatId)
      .then(found => shown && setPast(found))
      .catch(reason => {
        if (!shown) return;
        setError(explain(String(reason.message)));
        timer = setTimeout(load, RETRY_MS);
      });
    void load();
    return () => {
      shown = false;
      clearTimeout(timer);
    };
  }, [chatId]);
  if (past) return <Chat chatId={chatId} past={past.messages} />;
  return (
    <main aria-busy="true">
      {error && <p className="notice error" role="alert">The chat could not be loaded yet: {error}</p>}
    </main>
  );
}
