/**
 * A server with nginx in front of a small site, an ACME authority that is as strict as it can be, and the DNS that both of
 * them ask: what certificates need.
 */
import { connect } from 'node:tls';
import { readFile } from 'node:fs/promises';
import { type ActionRun, runAction } from './harness/index.ts';
import { deployKey, type DeployOptions, onServer, projectFiles, theServer } from './sandbox.ts';

export interface AcmeInfo {
  readonly directory: string;
  readonly ca: string;
  readonly root: string;
  readonly dns: string;
  readonly dnsControl: string;
  readonly log: string;
}

interface AcmeSandbox {
  startAcme(options: { readonly validitySeconds: number }): Promise<AcmeInfo>;
  stopAcme(): Promise<void>;
  offerPackages(name: string): Promise<void>;
}

const SANDBOX_MODULE: string = new URL('../../infra/sandbox/sandbox.mjs', import.meta.url).href;

let acme: AcmeInfo | undefined;

export function theAcme(): AcmeInfo {
  if (acme === undefined) throw new Error('startAcme() first');
  return acme;
}

export async function startAcme(validitySeconds: number): Promise<AcmeInfo> {
  const sandbox = (await import(SANDBOX_MODULE)) as AcmeSandbox;
  acme = await sandbox.startAcme({ validitySeconds });
  return acme;
}

export async function stopAcme(): Promise<void> {
  await ((await import(SANDBOX_MODULE)) as AcmeSandbox).stopAcme();
}

/** nginx and sudo are there; certbot can be had with apt, and is not there. */
export async function prepareServer(): Promise<void> {
  await ((await import(SANDBOX_MODULE)) as AcmeSandbox).offerPackages(theServer().name);
  await onServer('DEBIAN_FRONTEND=noninteractive apt-get -qq -y --no-install-recommends install nginx-light sudo');
}

async function tellDns(verb: string, record: object): Promise<void> {
  const response = await fetch(`${theAcme().dnsControl}/${verb}`, { method: 'POST', body: JSON.stringify(record) });
  if (!response.ok) throw new Error(`${verb}: ${response.status}`);
}

export interface Records {
  readonly a?: readonly string[];
  readonly aaaa?: readonly string[];
  /** Values of `issue`. */
  readonly caa?: readonly string[];
}

export async function setRecords(name: string, { a, aaaa, caa }: Records): Promise<void> {
  // Instead of those that are there: `add-` alone is a record more.
  if (a !== undefined) {
    await tellDns('clear-a', { host: name });
    await tellDns('add-a', { host: name, addresses: a });
  }
  if (aaaa !== undefined) await tellDns('add-aaaa', { host: name, addresses: aaaa });
  if (caa !== undefined) {
    await tellDns('add-caa', { host: `${name}.`, policies: caa.map((value) => ({ tag: 'issue', value })) });
  }
}

/** The orders that the authority got so far. */
export async function countOrders(): Promise<number> {
  return (await readFile(theAcme().log, 'utf8')).split('POST /order-plz').length - 1;
}

/** Runs action-ssl as a workflow step would. */
export async function runSsl(
  inputs: Readonly<Record<string, string>>,
  options: DeployOptions = {},
): Promise<ActionRun> {
  const [server, key, authority] = [theServer(), await deployKey(), theAcme()];
  return runAction({
    action: 'action-ssl',
    workspace: (await projectFiles({})).folder,
    secrets: [key],
    ...options,
    with: {
      host: server.address,
      'ssh-key': key,
      'known-hosts': server.knownHosts,
      'acme-server': authority.directory,
      'acme-rehearsal-server': authority.directory,
      'acme-ca': authority.ca,
      'dns-server': authority.dns,
      ...inputs,
    },
  });
}

/** As `runSsl`; its log is the failure's message if it does not go well. */
export async function mustRunSsl(inputs: Readonly<Record<string, string>>): Promise<ActionRun> {
  const run = await runSsl(inputs);
  if (run.outcome !== 'success') throw new Error(`action-ssl ended with ${run.outcome}:\n${run.log}`);
  return run;
}

/** A visitor who trusts the authority's root and nothing else. @returns the certificate's fingerprint @throws where TLS does not hold */
export async function visit(name: string, address = theServer().address): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = connect({ host: address, port: 443, servername: name, ca: theAcme().root }, () => {
      const { fingerprint256 } = socket.getPeerCertificate();
      socket.end();
      resolve(fingerprint256);
    });
    socket.once('error', reject);
    socket.setTimeout(5000, () => socket.destroy(new Error(`${address} does not answer`)));
  });
}
