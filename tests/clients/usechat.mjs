// The hooks of AI SDK 7, 6 and 5, unmodified, in a page of their own.
import { finish, readArguments, run } from './harness.mjs';
import { Client } from './usechat/client.mjs';
import { history } from './usechat/history.mjs';
import { network } from './usechat/network.mjs';
import { surfaces } from './usechat/plain.mjs';
import { turns } from './usechat/turns.mjs';

const { base, only, options } = readArguments({ versions: { type: 'string', default: '7,6,5' } });
for (const version of options.versions.split(',').map(Number)) {
  const sdk = await import(`ai-${version}`);
  const hooks = await import(`ai-react-${version}`);
  const client = new Client(base, version, sdk, hooks);
  const scenarios = { ...turns(client), ...history(client), ...network(client), ...surfaces(client) };
  await run(`ai ${version}`, scenarios, only);
}
finish();
