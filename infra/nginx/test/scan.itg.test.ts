/** The scan of TLS that behaviour.ts makes does find what is weak. */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createServer } from 'node:tls';
import { scan } from './behaviour.ts';

test('a scan finds old protocols, suites without forward secrecy or authentication, and every group', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'slipway-scan-'));
  try {
    const [key, cert] = [join(folder, 'key.pem'), join(folder, 'cert.pem')];
    execFileSync(
      'openssl',
      ['req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-subj', '/CN=a', '-keyout', key, '-out', cert],
      {
        stdio: 'ignore',
      },
    );
    const server = createServer(
      {
        key: readFileSync(key),
        cert: readFileSync(cert),
        ciphers: 'ALL@SECLEVEL=0',
        minVersion: 'TLSv1',
        ecdhCurve: 'X25519MLKEM768:X25519:P-256:P-384:P-521:X448:ffdhe2048',
      },
      (socket) => {
        socket.on('error', () => undefined);
        socket.once('data', () => socket.end());
      },
    );
    server.on('tlsClientError', () => undefined);
    await new Promise<void>((resolve) => server.listen(join(folder, '443.sock'), resolve));
    const found = await scan({ folder }, 'a');
    server.close();
    expect(found.protocols).toEqual(['TLSv1', 'TLSv1.1', 'TLSv1.2', 'TLSv1.3']);
    expect(found.suites).toEqual(
      expect.arrayContaining(['TLS_RSA_WITH_AES_128_CBC_SHA', 'TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA']),
    );
    expect(found.groups).toEqual(expect.arrayContaining(['X25519MLKEM768', 'P-521', 'X448', 'ffdhe2048']));
  } finally {
    rmSync(folder, { recursive: true });
  }
});
