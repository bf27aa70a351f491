// What a session store must do, whoever calls it.
import { check, newId, refused, same, sameValue } from '../harness.mjs';
import { question, questions } from './model.mjs';

export const items = ({ base, open }) => {
  const raw = (id, method, path = '', body, headers = {}) =>
    fetch(`${base}/v1/sessions/${encodeURIComponent(id)}/items${path}`, {
      method, body, headers: { ...(body ? { 'content-type': 'application/json' } : {}), ...headers },
    });

  return {
    async unknown() {
      const session = open();
      same(await session.getItems(), [], 'items');
      same(await session.getItems(3), [], 'latest 3');
      same(await session.popItem(), undefined, 'pop');
      await session.clearSession();
      same(await session.getItems(), [], 'items after clear');
    },

    async order() {
      const session = open();
      const all = questions(40);
      for (const [from, to] of [[0, 1], [1, 17], [17, 17], [17, 40]]) await session.addItems(all.slice(from, to));
      same(await session.getItems(), all, 'all, oldest first');
    },

    async limit() {
      const session = open();
      const all = questions(12);
      await session.addItems(all);
      for (const count of [1, 5, 11, 12, 13, 5000]) {
        same(await session.getItems(count), all.slice(-count), `latest ${count}, oldest first`);
      }
      same(await session.getItems(0), [], 'limit 0');
      same(await session.getItems(-2), [], 'negative limit');
    },

    async pop() {
      const session = open();
      await session.addItems(questions(3));
      for (const index of [2, 1]) same(await session.popItem(), question(`question ${index}`), `pop of ${index}`);
      await session.addItems([question('newer')]);
      same(await session.getItems(), [question('question 0'), question('newer')], 'after pop and add');
      same(await session.getItems(1), [question('newer')], 'latest 1');
    },

    async clear() {
      const [session, neighbour] = [open(), open()];
      await session.addItems(questions(5));
      await neighbour.addItems(questions(2));
      await session.clearSession();
      same(await session.getItems(), [], 'after clear');
      same((await neighbour.getItems()).length, 2, 'the neighbour');
      await session.addItems([question('again')]);
      same(await session.getItems(), [question('again')], 'usable after clear');
    },

    async replace() {
      const session = open();
      await session.addItems(questions(8));
      const compacted = [{ type: 'compaction', encrypted_content: 'c2VjcmV0' }, question('kept')];
      await session.replaceHistoryWithCompaction(compacted);
      same(await session.getItems(), compacted, 'after replace');
    },

    async exact() {
      const id = newId();
      const texts = [
        '{"zeta":1.0,"alpha":-0.0,"big":123456789012345678901234567890,"exp":1E+2,"role":"user","content":"x"}',
        '{"type":"unknown","b":{"b":[[],{},null,""],"a":false},"a":"\\u0000\\ud83c\\udf0a\\/","content":"🌊 \\u2028"}',
      ];
      const stored = await raw(id, 'POST', '', `{"items":[${texts}]}`);
      check(stored.ok, `POST: ${stored.status}`);
      const got = await (await raw(id, 'GET')).text();
      for (const text of texts) check(got.includes(text), `not kept as it was: ${text} in ${got}`);
      same(JSON.parse(got).items.length, 2, 'items');
      const popped = await (await raw(id, 'POST', '/pop')).text();
      check(popped.includes(texts[1]), `popped otherwise than stored: ${popped}`);
    },

    async 'key-order'() {
      const session = open();
      const item = { z: [{ y: 1, x: null }], role: 'user', providerData: { 10: 'a', b: '', 9: 0.5 }, content: 'k' };
      await session.addItems([item]);
      same(await session.getItems(), [item], 'item');
    },

    async 'odd-ids'() {
      const ids = ['a/b', 'a%2Fb', 'ü ?#&=', '..%', '"quoted"', '山'].map(odd => newId(odd));
      for (const id of ids) await open(id).addItems([question(id)]);
      for (const id of ids) same(await open(id).getItems(), [question(id)], `session ${id}`);
    },

    async large() {
      const session = open();
      const text = 'α'.repeat(400_000);
      await session.addItems([question(text), question('small')]);
      const [first, second] = await session.getItems();
      same([first.content === text, second.content], [true, 'small'], 'items');
    },

    async concurrency() {
      const id = newId();
      const batch = writer => Array.from({ length: 4 }, (_, i) => question(`${writer}.${i}`));
      await Promise.all(Array.from({ length: 25 }, (_, writer) => open(id).addItems(batch(writer))));
      const got = (await open(id).getItems()).map(item => item.content);
      same(got.length, 100, 'items');
      for (let start = 0; start < 100; start += 4) {
        const [writer] = got[start].split('.');
        same(got.slice(start, start + 4), batch(writer).map(item => item.content), 'a batch stays in one piece');
      }
      const popped = await Promise.all(Array.from({ length: 60 }, () => open(id).popItem()));
      same(new Set(popped.map(item => item.content)).size, 60, 'no item is popped twice');
      sameValue((await open(id).getItems()).map(item => item.content), got.slice(0, 40), 'the oldest stay');
    },

    async 'safe-retry'() {
      const id = newId();
      const headers = { 'idempotency-key': newId('key') };
      const body = JSON.stringify({ items: questions(2) });
      const [first, second] = [await raw(id, 'POST', '', body, headers), await raw(id, 'POST', '', body, headers)];
      same([first.status, second.status], [200, 200], 'statuses');
      same(second.headers.get('idempotent-replayed'), 'true', 'header of the replay');
      same(await second.text(), await first.text(), 'answers');
      same((await open(id).getItems()).length, 2, 'items');
      const other = await raw(id, 'POST', '', JSON.stringify({ items: questions(1) }), headers);
      same(other.status, 422, 'the key with another body');
      same((await open(id).getItems()).length, 2, 'items after the refusal');
    },

    async 'lost-answers'() {
      const id = newId();
      let calls = 0;
      const lossy = async (url, init) => {
        calls += 1;
        const response = await fetch(url, init);
        if (calls % 2 === 0) return response;
        await response.text();
        throw new TypeError('network error');
      };
      const session = open(id, { fetch: lossy });
      await session.addItems(questions(3));
      same(await session.popItem(), question('question 2'), 'pop');
      same(await open(id).getItems(), questions(2), 'each call was done once');
      check(calls >= 4, 'no answer was lost');
    },

    async transactions() {
      const session = open();
      await session.addItems(questions(3));
      const append = { type: 'append_items', items: [question('t'), question('u')] };
      await session.applyHistoryTransaction({ operationId: 'turn:1', transaction: append });
      await session.applyHistoryTransaction({ operationId: 'turn:1', transaction: append });
      same((await session.getItems()).length, 5, 'the same operation counts once');
      const swap = {
        type: 'replace_suffix',
        expectedSuffix: [{ content: 't', role: 'user', type: 'message' }, question('u')],
        replacement: [question('v')],
      };
      await session.applyHistoryTransaction({ operationId: 'turn:2', transaction: swap });
      await session.applyHistoryTransaction({ operationId: 'turn:2', transaction: swap });
      same((await session.getItems()).map(item => item.content), ['question 0', 'question 1', 'question 2', 'v'], 'suffix');
      await open().applyHistoryTransaction({ operationId: 'turn:1', transaction: append });
      const remove = { type: 'replace_suffix', expectedSuffix: [question('v')], replacement: [] };
      await session.applyHistoryTransaction({ operationId: 'turn:3', transaction: remove });
      same(await session.getItems(), questions(3), 'a suffix can be removed');
    },

    async 'transactions-refused'() {
      const session = open();
      await session.addItems(questions(2));
      const append = text => ({ type: 'append_items', items: [question(text)] });
      await session.applyHistoryTransaction({ operationId: 'one', transaction: append('a') });
      const apply = (operationId, transaction, what) =>
        refused(session.applyHistoryTransaction({ operationId, transaction }), what);
      const reused = await apply('one', append('b'), 'another change under a used id');
      same([reused.status, reused.code], [409, 'operation_reused'], 'error');
      const mismatches = {
        'a suffix of other items': [question('question 1'), question('b')],
        'a suffix longer than the history': [...questions(2), question('a'), question('a')],
        'a suffix that is not at the end': questions(2),
      };
      for (const [what, expectedSuffix] of Object.entries(mismatches)) {
        const error = await apply('two', { type: 'replace_suffix', expectedSuffix, replacement: [] }, what);
        same([error.status, error.code], [409, 'suffix_mismatch'], what);
      }
      const bad = await apply('three', { type: 'shuffle' }, 'an unknown kind of change');
      check(bad.status >= 400 && bad.status < 500, `status ${bad.status}`);
      same((await session.getItems()).length, 3, 'nothing was changed');
      await session.applyHistoryTransaction({ operationId: 'two', transaction: append('b') });
      same((await session.getItems()).length, 4, 'a refused operation leaves its id free');
    },

    async 'transactions-at-once'() {
      const id = newId();
      const args = { operationId: 'same', transaction: { type: 'append_items', items: questions(2) } };
      await Promise.all(Array.from({ length: 10 }, () => open(id).applyHistoryTransaction(args)));
      same((await open(id).getItems()).length, 2, 'ten times at once counts once');
    },
  };
};
