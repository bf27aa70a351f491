// The examples that run in a terminal, each in a fresh copy and by the commands of its README.
// usage: node examples.mjs <base-url> [scenario ...]
import { fileURLToPath } from 'node:url';
import { finished, freshCopy, start } from './example.mjs';
import { check, finish, readArguments, run, same, skip } from './harness.mjs';

const { base, only } = readArguments();
const LIMIT_MS = 240_000;

/** Does what the README says; gives how much each run of a demo found from before. */
async function follow(name) {
  const example = freshCopy(name);
  try {
    const found = [];
    for (const command of example.commands) {
      const output = await finished(command, example.folder, base);
      const before = output.match(/^(\d+) (items|messages) from before$/m);
      if (before) found.push(Number(before[1]));
    }
    return found;
  } finally {
    example.remove();
  }
}

/** Every demo runs twice, and its second run finds the two questions and answers of the first. */
function checkMemory(found, demos) {
  same(found.length, 2 * demos, 'runs of demos');
  for (let i = 0; i < found.length; i += 2) same(found[i + 1] - found[i], 4, 'what the second run finds');
}

const scenarios = {
  'agents-ts': async () => checkMemory(await follow('agents-ts'), 1),
  'agents-python': async () => checkMemory(await follow('agents-python'), 1),
  langchain: async () => checkMemory(await follow('langchain'), 2),

  // `run` says where the Node of this machine is, if that is too old for the examples.
  async 'old-node'() {
    const path = process.env.SESSILE_OLD_NODE_PATH;
    if (!path) skip('the Node in the PATH is new enough');
    const example = freshCopy('agents-ts');
    try {
      const running = start(example.commands[0], example.folder, base, { PATH: path });
      check(await running.status !== 0, 'an old Node was accepted');
      check(/EBADENGINE/.test(running.output) && />=22\.18/.test(running.output), `it said: ${running.output}`);
    } finally {
      example.remove();
    }
  },

  async 'chat.sh'() {
    const script = fileURLToPath(new URL('../../examples/chat.sh', import.meta.url));
    const output = await finished(`bash ${script} ${base}`, '/', base);
    check(output.includes('{"type":"delta","content":"Hello"}'), `no answer: ${output}`);
    same(output.match(/"content":"once"/g)?.length, 4, 'times that the message sent twice is shown');
  },
};

await run('examples', scenarios, only, LIMIT_MS);
finish();
