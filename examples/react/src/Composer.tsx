import { useState, type FormEvent, type KeyboardEvent, type RefObject } from 'react';

interface Properties {
  inputRef: RefObject<HTMLTextAreaElement | null>;
  busy: boolean;
  send: (text: string) => void;
  stop: () => void;
}

export function Composer({ inputRef, busy, send, stop }: Properties) {
  const [text, setText] = useState('');

  const submit = (event?: FormEvent) => {
    event?.preventDefault();
    if (busy || text.trim() === '') return;
    send(text);
    setText('');
  };
  const onKeyDown = (event: KeyboardEvent) => {
    if (event.key === 'Enter' && !event.shiftKey && !event.nativeEvent.isComposing) {
      event.preventDefault();
      submit();
    }
    if (event.key === 'Escape' && busy) stop();
  };

  return (
    <form className="composer" onSubmit={submit}>
      <div className="box">
        <textarea
          ref={inputRef}
          rows={1}
          value={text}
          autoFocus
          aria-label="Message"
          placeholder="Write a message"
          onChange={event => setText(event.target.value)}
          onKeyDown={onKeyDown}
        />
        {busy
          ? <button type="button" className="stop" onClick={stop}><span aria-hidden="true" />Stop</button>
          : <button type="submit" className="send" disabled={text.trim() === ''}>Send</button>}
      </div>
      <p className="hint">
        <kbd>Enter</kbd> sends, <kbd>Shift</kbd> <kbd>Enter</kbd> breaks the line, <kbd>Esc</kbd> stops
      </p>
    </form>
  );
}
