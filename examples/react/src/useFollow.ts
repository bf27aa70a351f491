// Keeps the end of the conversation in sight, unless the reader has scrolled away from it.
import { useEffect, useRef } from 'react';

const NEAR_PX = 120;

export function useFollow(changes: unknown) {
  const end = useRef<HTMLDivElement>(null);
  const near = useRef(true);
  useEffect(() => {
    const look = () => {
      const page = document.documentElement;
      near.current = page.scrollHeight - page.scrollTop - page.clientHeight < NEAR_PX;
    };
    addEventListener('scroll', look, { passive: true });
    return () => removeEventListener('scroll', look);
  }, []);
  useEffect(() => {
    if (near.current) end.current?.scrollIntoView({ block: 'end' });
  }, [changes]);
  return end;
}
