// The page of examples/react in a real browser, as its README says: built, and as `npm run dev` serves it; and the page
// without a build, examples/browser.html.
// usage: node browser.mjs <base-url> [--screenshot FILE] [scenario ...]
import { existsSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { chromium } from 'playwright-core';
import { finished, freshCopy, start } from './example.mjs';
import { check, finish, newId, readArguments, run, same, sleep, until } from './harness.mjs';
import { OwnServer } from './ownserver.mjs';
import { servePage } from './pageserver.mjs';

const FLAGS = [
  '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run',
  '--disable-background-networking', '--disable-component-update', '--disable-sync',
];
const { base, only, options } = readArguments({ screenshot: { type: 'string' } });
// As the page shows it: Markdown drops the space at the end.
const counted = count => Array.from({ length: count }, (_, i) => `w${i} `).join('').trimEnd();
const DEV = 'npm run dev';

const executablePath = process.env.PATH.split(delimiter)
  .flatMap(directory => ['chromium', 'chromium-browser', 'google-chrome'].map(name => join(directory, name)))
  .find(existsSync);
if (!executablePath) {
  console.log('FAIL browser: no Chromium in the PATH');
  process.exit(1);
}
const example = freshCopy('react');
try {
  check(example.commands.includes(DEV), `the README of examples/react does not say \`${DEV}\``);
  for (const command of example.commands.filter(command => command !== DEV)) {
    await finished(command, example.folder, base);
  }
} catch (error) {
  console.log(`FAIL browser: ${error.message}`);
  process.exit(1);
}
const pages = await servePage(join(example.folder, 'dist'), base);
const browser = await chromium.launch({ executablePath, headless: true, args: FLAGS });

/** Keeps every text that the answer ever showed. */
function watchAnswers() {
  window.shown = [];
  new MutationObserver(() => {
    const texts = document.querySelectorAll('.assistant .text');
    const text = texts.length > 0 ? texts[texts.length - 1].textContent : '';
    if (text !== window.shown.at(-1)) window.shown.push(text);
  }).observe(document, { subtree: true, childList: true, characterData: true });
}

async function openTab(id, context, url = pages.url) {
  const own = context ?? await browser.newContext({ viewport: { width: 900, height: 820 } });
  const tab = await own.newPage();
  const complaints = [];
  tab.on('pageerror', error => complaints.push(String(error)));
  await tab.addInitScript(watchAnswers);
  await tab.goto(`${url}#${encodeURIComponent(id)}`);
  const input = tab.getByRole('textbox', { name: 'Message' });
  await input.waitFor();
  return {
    tab, input, context: own, complaints,
    messages: tab.locator('.messages > li'),
    answer: () => tab.locator('.assistant .text').last().textContent().catch(() => ''),
    button: name => tab.getByRole('button', { name, exact: true }),
    alert: tab.getByRole('alert'),
    shown: () => tab.evaluate(() => window.shown),
    say: async text => {
      await input.fill(text);
      await input.press('Enter');
    },
    ready: () => tab.getByRole('button', { name: 'Send', exact: true }).waitFor({ timeout: 20_000 }),
    reading: count => until(
      async () => (await tab.locator('.assistant .text').count()) > 0
        && (await tab.locator('.assistant .text').last().textContent()).includes(`w${count} `),
      `w${count} on the page`,
    ),
  };
}

/** What was shown only ever grew towards the whole text. */
function checkGrowth(shown, whole, what) {
  let length = 0;
  for (const text of shown.filter(text => text !== '')) {
    check(whole.startsWith(text), `${what}: ${JSON.stringify(text.slice(-60))} was shown`);
    check(text.length >= length, `${what}: the text went back from ${length} to ${text.length}`);
    length = text.length;
  }
}

const stored = async id =>
  (await (await fetch(`${base}/api/chat/${encodeURIComponent(id)}/messages`)).json());

const scenarios = {
  async answer() {
    const page = await openTab(newId());
    await page.say('!slow 40 25');
    await page.ready();
    same(await page.answer(), counted(40), 'answer');
    const shown = await page.shown();
    check(shown.length > 10, `the answer was shown in ${shown.length} pieces`);
    checkGrowth(shown, counted(40), 'answer');
    same(await page.messages.count(), 2, 'messages');
    same(page.complaints, [], 'errors of the page');
    await page.context.close();
  },

  async 'reload-in-mid-answer'() {
    const id = newId("a/b ?");
    const page = await openTab(id);
    await page.say('!slow 100 30');
    await page.reading(15);
    await page.tab.reload();
    await page.reading(20);
    check(!(await page.answer()).includes('w99'), 'the answer was over before it was read again');
    await page.ready();
    same(await page.answer(), counted(100), 'answer');
    checkGrowth(await page.shown(), counted(100), 'after the reload');
    same(await page.messages.count(), 2, 'messages');
    await page.tab.reload();
    await page.messages.nth(1).waitFor();
    same(await page.answer(), counted(100), 'answer from the history');
    await page.tab.waitForLoadState('networkidle');
    same(await page.alert.count(), 0, 'alerts where nothing runs');
    same(page.complaints, [], 'errors of the page');
    await page.context.close();
  },

  async 'stop-from-second-tab'() {
    const id = newId();
    const first = await openTab(id);
    await first.say('!slow 400 30');
    await first.reading(10);
    const second = await openTab(id, first.context);
    await second.reading(12);
    await second.button('Stop').click();
    await second.ready();
    await first.ready();
    const text = await first.answer();
    same(await second.answer(), text, 'both tabs show the same');
    check(counted(400).startsWith(text) && !text.includes('w300'), `the answer went on: ${text.slice(-40)}`);
    await sleep(200);
    const { messages, active } = await stored(id);
    same(active, false, 'active');
    same(messages[1].parts.at(-1).text.trimEnd(), text, 'stored text');
    same(await first.alert.count() + await second.alert.count(), 0, 'alerts');
    await first.say('onward');
    await until(async () => (await first.answer()) === 'echo: onward', 'the next answer');
    await first.context.close();
  },

  async 'network-loss'() {
    const page = await openTab(newId());
    await page.say('!slow 120 30');
    await page.reading(15);
    pages.loseNetwork();
    await page.tab.getByText('The connection was lost').waitFor();
    await sleep(300);
    pages.findNetwork();
    await page.reading(60);
    await page.ready();
    same(await page.answer(), counted(120), 'answer');
    same(await page.messages.count(), 2, 'messages');
    same(await page.tab.getByText('The connection was lost').count(), 0, 'notices');
    same(await page.alert.count(), 0, 'alerts');
    await page.context.close();
  },

  // What is said while nobody listens is said again, once.
  async 'network-loss-before-sending'() {
    const page = await openTab(newId());
    await page.say('first');
    await until(async () => (await page.answer()) === 'echo: first', 'the first answer');
    pages.loseNetwork();
    await page.say('second');
    await page.tab.getByText('The connection was lost').waitFor();
    pages.findNetwork();
    await until(async () => (await page.answer()) === 'echo: second', 'the second answer');
    await page.ready();
    same(await page.messages.count(), 4, 'messages');
    same(await page.alert.count(), 0, 'alerts');
    await page.context.close();
  },

  async 'network-loss-over-the-end'() {
    const id = newId();
    const page = await openTab(id);
    await page.say('!slow 60 30');
    await page.reading(10);
    pages.loseNetwork();
    await until(async () => !(await stored(id)).active, 'the turn to end');
    pages.findNetwork();
    await until(async () => (await page.answer()) === counted(60), 'the whole answer');
    await page.ready();
    same(await page.messages.count(), 2, 'messages');
    await page.context.close();
  },

  async errors() {
    const page = await openTab(newId());
    await page.say('!error the model is ill');
    await page.alert.waitFor();
    same((await page.alert.textContent()).replace('Try again', ''), 'the model is ill', 'alert');
    same(await page.answer(), 'partial', 'what came before the error');
    await page.say('!http 503');
    await until(async () => !(await page.alert.textContent()).includes('ill'), 'the next alert');
    check(!(await page.alert.textContent()).includes('{'), 'the alert shows JSON');
    await page.say('well again');
    await until(async () => (await page.answer()) === 'echo: well again', 'the next answer');
    same(await page.alert.count(), 0, 'alerts');
    await page.context.close();
  },

  async tools() {
    const page = await openTab(newId());
    await page.say('!reason hm, a sum\n!tool add {"a":19,"b":23}\nThere it is.');
    await page.ready();
    same(await page.tab.locator('.tool .output').textContent(), '42', 'result');
    await page.say('!approve deploy {"to":"production"}');
    await page.button('Allow').click();
    await until(async () => (await page.answer()).startsWith('tool said'), 'the answer after the approval');
    same(await page.tab.locator('.tool.output-available').count(), 2, 'tools that are done');
    same(page.complaints, [], 'errors of the page');
    await page.context.close();
  },

  async markdown() {
    const page = await openTab(newId());
    await page.say('**bold** <img src=x onerror=alert(1)> ![there](http://127.0.0.1:9/x.png) [go](javascript:alert(1)) `code`');
    await page.ready();
    const answer = page.tab.locator('.assistant .text').last();
    same(await answer.locator('strong').textContent(), 'bold', 'bold');
    same(await answer.locator('code').textContent(), 'code', 'code');
    same(await answer.locator('img').count(), 0, 'pictures that nobody asked for');
    check((await answer.textContent()).includes('<img src=x onerror=alert(1)>'), 'HTML is not shown as text');
    same(await answer.locator('a').evaluateAll(links => links.map(link => link.getAttribute('href'))), ['http://127.0.0.1:9/x.png', ''], 'links');
    same(page.complaints, [], 'errors of the page');
    await page.context.close();
  },

  // What others say comes to a tab that rests, whoever they are.
  async others() {
    const id = newId();
    const first = await openTab(id);
    const second = await openTab(id, first.context);
    await first.say('!slow 60 30');
    await second.reading(5);
    await first.ready();
    await second.ready();
    same([await first.answer(), await second.answer()], [counted(60), counted(60)], 'both tabs');
    await fetch(`${base}/chat/${id}`, { method: 'POST', body: JSON.stringify({ content: 'from a terminal' }) });
    for (const page of [first, second]) {
      await until(async () => (await page.answer()) === 'echo: from a terminal', 'what a terminal said');
      same(await page.messages.count(), 4, 'messages');
      same(page.complaints, [], 'errors of the page');
    }
    await first.context.close();
  },

  // `npm run dev`, and a server that dies in mid-answer.
  async 'dev-kill'() {
    const server = new OwnServer();
    await server.start();
    const dev = start(DEV, example.folder, server.base);
    try {
      const url = await until(() => dev.output.match(/http:\/\/127\.0\.0\.1:\d+\//)?.[0], `an address of \`${DEV}\``, 20_000);
      const id = newId();
      const first = await openTab(id, undefined, url);
      const second = await openTab(id, first.context, url);
      await first.say('!slow 100 40');
      await first.reading(15);
      await second.reading(15);
      await server.signal('SIGKILL');
      await first.tab.getByText('The connection was lost').waitFor();
      await server.start();
      const kept = async () => (await (await fetch(`${server.base}/api/chat/${id}/messages`)).json()).messages.at(-1).parts.at(-1).text.trimEnd();
      for (const page of [first, second]) {
        await page.tab.getByText('The server stopped in the middle').waitFor();
        await page.ready();
        same(await page.answer(), await kept(), 'what had been said');
        check((await page.answer()).includes('w14 '), 'shown text is gone');
      }
      if (options.screenshot) await first.tab.screenshot({ path: options.screenshot.replace(/(\.png)?$/, '-interrupted.png') });
      await second.button('Answer again').click();
      for (const page of [first, second]) {
        await until(async () => (await page.answer()) === counted(100), 'the whole answer', 20_000);
        await page.ready();
        same(await page.messages.count(), 2, 'messages');
        same(page.complaints, [], 'errors of the page');
      }
      await server.signal('SIGKILL');
      await first.say('are you there?');
      await first.alert.getByText('The server cannot be reached').waitFor();
      await server.start();
      await second.tab.getByText('The connection was lost').waitFor({ state: 'detached' });
      await first.button('Try again').click();
      for (const page of [first, second]) {
        await until(async () => (await page.answer()) === 'echo: are you there?', 'the answer to what was said to nobody');
        same(await page.messages.count(), 4, 'messages');
      }
      await first.context.close();
    } finally {
      await dev.end();
      await server.end();
    }
  },

  // A server that is there and says nothing: the page does not wait for ever.
  async 'dev-stall'() {
    const server = new OwnServer();
    await server.start();
    const dev = start(DEV, example.folder, server.base, { VITE_SILENCE_MS: '1500' });
    try {
      const url = await until(() => dev.output.match(/http:\/\/127\.0\.0\.1:\d+\//)?.[0], `an address of \`${DEV}\``, 20_000);
      const page = await openTab(newId(), undefined, url);
      await page.say('!slow 60 30');
      await page.reading(10);
      await server.signal('SIGSTOP');
      await page.tab.getByText('The connection was lost').waitFor();
      await server.signal('SIGCONT');
      await until(async () => (await page.answer()) === counted(60), 'the whole answer', 20_000);
      await page.ready();
      same(await page.messages.count(), 2, 'messages');
      await page.context.close();
    } finally {
      await server.signal('SIGCONT');
      await dev.end();
      await server.end();
    }
  },

  // examples/browser.html: no build, the native socket.
  async 'browser.html'() {
    const server = new OwnServer();
    await server.start();
    const plain = await servePage(fileURLToPath(new URL('../../examples', import.meta.url)), server.base);
    const context = await browser.newContext();
    try {
      const session = newId();
      const address = `${plain.url}browser.html?server=${new URL(server.base).host}&session=${session}`;
      const open = async () => {
        const tab = await context.newPage();
        const complaints = [];
        tab.on('pageerror', error => complaints.push(String(error)));
        await tab.goto(address);
        await tab.getByText('connected', { exact: true }).waitFor();
        const answer = () => tab.locator('#log .assistant').last().textContent();
        return { tab, complaints, answer };
      };
      const first = await open();
      const second = await open();
      const said = fetch(`${server.base}/chat/${session}`, { method: 'POST', body: JSON.stringify({ content: '!reason hm\n!slow 60 30' }) })
        .then(response => response.text()).catch(() => {});
      await until(async () => (await second.tab.locator('#log .assistant').count()) > 0 && (await second.answer()).includes('w9 '), 'an answer');
      await server.signal('SIGKILL');
      await said;
      await first.tab.getByText('reconnecting after').waitFor();
      await server.start();
      for (const page of [first, second]) await page.tab.getByText('connected', { exact: true }).waitFor();
      const cut = await first.answer();
      check(cut.startsWith('w0 ') && !cut.includes('hm'), `shown: ${cut}`);
      await first.tab.locator('input').fill('hello');
      await first.tab.locator('input').press('Enter');
      for (const page of [first, second]) {
        await until(async () => (await page.answer()) === 'echo: hello', 'the next answer');
        same(await page.tab.locator('#log > div').count(), 4, 'messages');
      }
      await second.tab.reload();
      await until(async () => (await second.tab.locator('#log > div').count()) === 4, 'the log after a reload');
      same(await second.tab.locator('#log > div').allTextContents(), await first.tab.locator('#log > div').allTextContents(), 'both tabs');
      same([...first.complaints, ...second.complaints], [], 'errors of the page');
    } finally {
      await context.close();
      await server.end();
    }
  },

  async keyboard() {
    const page = await openTab(newId());
    const focused = () => page.tab.evaluate(() => document.activeElement.tagName);
    same(await focused(), 'TEXTAREA', 'focus after loading');
    await page.tab.keyboard.type('!slow 300 30');
    await page.tab.keyboard.press('Shift+Enter');
    await page.tab.keyboard.type('and more');
    same(await page.input.inputValue(), '!slow 300 30\nand more', 'text of two lines');
    await page.tab.keyboard.press('Enter');
    await page.reading(5);
    same(await focused(), 'TEXTAREA', 'focus while an answer runs');
    await page.tab.keyboard.press('Escape');
    await page.ready();
    const answer = await page.messages.last().textContent();
    check(!answer.includes('w200') && !answer.includes('and more'), 'Escape did not stop the answer');
    await page.context.close();
  },

  async 'new-chat'() {
    const page = await openTab(newId());
    await page.say('hello');
    await until(async () => (await page.answer()) === 'echo: hello', 'the answer');
    const before = page.tab.url();
    await page.button('New chat').click();
    await page.tab.getByText('What shall we talk about?').waitFor();
    check(page.tab.url() !== before, 'the address is the same');
    await page.tab.goBack();
    await until(async () => (await page.answer()) === 'echo: hello', 'the first chat');
    await page.context.close();
  },
};

async function takePictures(path) {
  const id = newId();
  const page = await openTab(id);
  const shoot = async name => {
    await sleep(150);
    await page.tab.screenshot({ path: path.replace(/(\.png)?$/, `${name}.png`) });
  };
  await shoot('-empty');
  const content = '## Markdown\n\nA *list*, a `word` of code, a [link](https://example.org):\n\n- one\n- two\n\n'
    + '```\ncode { keeps: its, lines }\n```\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n> said before';
  await fetch(`${base}/v1/sessions/${id}/messages`, { method: 'POST', body: JSON.stringify({ role: 'assistant', content }) });
  await page.tab.locator('.written table').waitFor();
  await shoot('-written');
  await page.say('!reason A sum is wanted; the tool is quicker than I am.\n!tool add {"a":19,"b":23}\nThat makes forty-two.');
  await page.ready();
  await page.say('And now take your time, please.\n!slow 400 15');
  await page.reading(80);
  await shoot('');
  await page.tab.emulateMedia({ colorScheme: 'dark' });
  await shoot('-dark');
  await page.button('Stop').click();
  await page.ready();
  await page.say('!approve deploy {"to":"production"}');
  await page.button('Allow').waitFor();
  await page.tab.emulateMedia({ colorScheme: 'light' });
  await page.tab.setViewportSize({ width: 390, height: 760 });
  await shoot('-small');
  await page.button('Refuse').click();
  await page.ready();
  await page.say('!error the model is out to lunch');
  await page.alert.waitFor();
  await shoot('-error');
  await page.context.close();
}

await run('browser', scenarios, only, 60_000);
if (options.screenshot) await takePictures(options.screenshot);
await browser.close();
example.remove();
finish();
