import { getToolName, isToolUIPart, type UIMessage } from 'ai';
import { memo } from 'react';
import Markdown, { type Components } from 'react-markdown';
import remarkGfm from 'remark-gfm';

type Part = UIMessage['parts'][number];
type ToolPart = Extract<Part, { toolCallId: string }>;
type Approve = (approvalId: string, approved: boolean) => void;

interface Properties {
  message: UIMessage;
  /** More of it is on its way. */
  growing: boolean;
  approve: Approve;
}

export function Message({ message, growing, approve }: Properties) {
  const own = message.role === 'user';
  const parts = message.parts.map((part, index) => shown(part, index, own, approve)).filter(Boolean);
  if (parts.length === 0 && !growing) return null;
  const className = growing ? `${message.role} growing` : message.role;
  return (
    <li className={className} data-message={message.id} aria-label={message.role === 'user' ? 'You' : 'Assistant'}>
      {parts}
    </li>
  );
}

/** What models write. HTML in it stays text, and a picture is a link: it is not fetched before somebody asks for it. */
const Written = memo(({ text }: { text: string }) => (
  <div className="text written"><Markdown remarkPlugins={[remarkGfm]} components={COMPONENTS}>{text}</Markdown></div>
));
const COMPONENTS: Components = {
  a: ({ href, children }) => <a href={href} rel="noreferrer" target="_blank">{children}</a>,
  img: ({ src, alt }) => <a href={String(src)} rel="noreferrer" target="_blank">{alt || 'Picture'}</a>,
};

function shown(part: Part, index: number, own: boolean, approve: Approve) {
  if (part.type === 'text' && own) return part.text && <p key={index} className="text">{part.text}</p>;
  if (part.type === 'text') return part.text && <Written key={index} text={part.text} />;
  if (part.type === 'reasoning') {
    return (
      <details key={index} className="reasoning" open={part.state === 'streaming'}>
        <summary>{part.state === 'streaming' ? 'Thinking …' : 'Thoughts'}</summary>
        <p>{part.text}</p>
      </details>
    );
  }
  if (part.type === 'file' && part.mediaType.startsWith('image/')) {
    return <img key={index} src={part.url} alt={part.filename ?? 'Picture'} />;
  }
  if (part.type === 'source-url') {
    return <a key={index} href={part.url} rel="noreferrer" target="_blank">{part.title ?? part.url}</a>;
  }
  if (isToolUIPart(part)) return <Tool key={part.toolCallId} part={part} approve={approve} />;
  return null;
}

const STATES: Record<ToolPart['state'], string> = {
  'input-streaming': 'is being called',
  'input-available': 'is at work',
  'approval-requested': 'wants to run',
  'approval-responded': 'was answered',
  'output-available': 'is done',
  'output-error': 'failed',
  'output-denied': 'was refused',
};

function Tool({ part, approve }: { part: ToolPart; approve: Approve }) {
  const approvalId = part.state === 'approval-requested' ? part.approval.id : undefined;
  return (
    <section className={`tool ${part.state}`} aria-label={`Tool ${getToolName(part)}`}>
      <h3><code>{getToolName(part)}</code> {STATES[part.state]}</h3>
      {part.input !== undefined && <pre>{JSON.stringify(part.input)}</pre>}
      {part.state === 'output-available' && <pre className="output">{JSON.stringify(part.output)}</pre>}
      {part.state === 'output-error' && <pre className="output">{part.errorText}</pre>}
      {approvalId && (
        <div className="choice">
          <button type="button" className="send" onClick={() => approve(approvalId, true)}>Allow</button>
          <button type="button" className="quiet" onClick={() => approve(approvalId, false)}>Refuse</button>
        </div>
      )}
    </section>
  );
}
