// Keeps the end of the conversation in sight, unless the reader has scrolled away from it.
import { useEffect, useRef } from 'react';

const NEAR_PX = 120;

export function useFollow(changes: unknown) {
  const near = useRef(true);
  const follow = () => {
    if (near.current) scrollTo({ top: document.documentElement.scrollHeight });
  };
  useEffect(() => {
    const look = () => {
      const page = document.documentElement;
      near.current = page.scrollHeight - page.scrollTop - page.clientHeight < NEAR_PX;
    };
    addEventListener('scroll', look, { passive: true });
    addEventListener('resize', follow);
    return () => {
      removeEventListener('scroll', look);
      removeEventListener('resize', follow);
    };
  }, []);
  useEffect(follow, [changes]);
}
