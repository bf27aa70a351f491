import { createRoot } from 'react-dom/client';
import { App } from './App';
import './style.css';

// No StrictMode: it mounts twice in development, and each mount would follow the running answer.
createRoot(document.getElementById('root')!).render(<App />);
