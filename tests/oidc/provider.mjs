// A certified OpenID provider on a free port. `PUT /control` makes it anew, with the clients in the body; its issuer
// stays the same, its keys do not. The first line of its output says where it is.

import { createServer } from 'node:http';
import { generateKeyPairSync, randomBytes } from 'node:crypto';

import { Provider } from 'oidc-provider';

let provider;

function keys() {
  const pairs = {
    rsa: generateKeyPairSync('rsa', { modulusLength: 2048 }),
    ec: generateKeyPairSync('ec', { namedCurve: 'P-256' }),
    ed: generateKeyPairSync('ed25519'),
  };
  return Object.entries(pairs).map(([name, pair]) => ({
    ...pair.privateKey.export({ format: 'jwk' }),
    kid: `${name}-${randomBytes(4).toString('hex')}`,
    use: 'sig',
  }));
}

function made(issuer, clients) {
  const fresh = new Provider(issuer, {
    clients,
    jwks: { keys: keys() },
    cookies: { keys: [randomBytes(16).toString('hex')] },
    claims: { openid: ['sub'], email: ['email', 'email_verified'], profile: ['name'] },
    features: {
      devInteractions: { enabled: true },
      backchannelLogout: { enabled: true },
      clientCredentials: { enabled: true },
      rpInitiatedLogout: { enabled: true },
      revocation: { enabled: true },
    },
    enabledJWA: { idTokenSigningAlgValues: ['RS256', 'PS256', 'ES256', 'EdDSA'] },
    pkce: { required: () => true },
    // The old one is dead when the new one is given, and showing it again ends the grant.
    rotateRefreshToken: true,
    // Its own fetch does not send to loopback addresses, which is where the API of the tests is.
    fetch: (url, options) => fetch(url, { ...options, dispatcher: undefined }),
    ttl: {
      AccessToken: 60, AuthorizationCode: 60, ClientCredentials: 60, Grant: 600, IdToken: 60, Interaction: 600, Session: 600,
      RefreshToken: 86400,
    },
    findAccount: (_, id) => ({
      accountId: id,
      claims: () => ({ sub: id, name: `Name of ${id}`, email: `${id}@example.org`, email_verified: true }),
    }),
  });
  fresh.on('server_error', (_, error) => console.error(error));
  fresh.on('backchannel.error', (_, error) => console.error(error));
  return fresh.callback();
}

const server = createServer((request, response) => {
  if (request.url !== '/control') {
    provider(request, response);
    return;
  }
  let body = '';
  request.on('data', (chunk) => { body += chunk; });
  request.on('end', () => {
    provider = made(`http://127.0.0.1:${server.address().port}`, JSON.parse(body));
    response.writeHead(204).end();
  });
});

server.listen(0, '127.0.0.1', () => {
  console.log(JSON.stringify({ issuer: `http://127.0.0.1:${server.address().port}` }));
});
// Whoever started this ends it: by a signal, or by going away.
process.stdin.resume().on('end', () => process.exit(0));
