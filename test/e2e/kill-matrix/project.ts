/** What the matrix deploys: a router, a routed service beside whose old replicas new ones come up, and two that are stopped first. */
import { readFile } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { type Checkout, deployKey, get, projectFiles, publishImage, theServer } from '../sandbox.ts';
import { type ActionRequest, type ActionRun, runAction } from '../harness/index.ts';
import { readBeats, registryHost } from './server.ts';
import { ROUTER_SITE } from '../router-site.ts';

/** What is killed: a release comes from the workspace, or from the store. */
export type Task = 'deploy' | 'rollback';

/** Which services of the project it changes. */
export type Variant = 'start-first' | 'stop-first';

/** Enough for: the release before, the current one, one that dies, and the next. */
export const TAGS = ['r1', 'r2', 'r3', 'r4', 'r5', 'r6'] as const;

/** What does not change in the variant `start-first`. */
const STEADY = 'r0';

const SECOND = 1_000_000_000;

const compose = (): string => `name: shop
x-stop-first: &stop-first
  image: ${registryHost()}/matrix:\${STATEFUL}
  restart: always
services:
  web:
    image: nginx:1.30
    restart: unless-stopped
    ports: ['8080:80']
    volumes: ['./nginx:/etc/nginx/conf.d:ro']
  app:
    image: ${registryHost()}/matrix:\${TAG}
    x-slipway: { router: web, port: 3000 }
    restart: unless-stopped
    deploy: { replicas: 2 }
    volumes: ['./site:/site:ro']
  ledger:
    <<: *stop-first
    ports: ['8081:3000']
    volumes: ['ledger:/data']
  vault:
    <<: *stop-first
    volumes: ['vault:/data']
volumes:
  ledger:
  vault:
`;

export async function publishReleases(): Promise<void> {
  const program = await readFile(new URL('application.mjs', import.meta.url), 'utf8');
  for (const tag of [STEADY, ...TAGS]) {
    await publishImage('node:24', `matrix:${tag}`, {
      env: [`RELEASE_ID=${tag}`],
      Entrypoint: ['node', '--input-type=module', '-e', program],
      Cmd: null,
      Labels: { release: tag },
      Healthcheck: {
        Test: ['CMD-SHELL', 'test -e /tmp/healthy'],
        // Docker's own looks would cost more than all the rest; those of the deploy are its own.
        Interval: 60 * SECOND,
        Timeout: 5 * SECOND,
        Retries: 3,
      },
    });
  }
}

/** The least that the input accepts. */
export const LEASE_SECONDS = 10;

export interface Deploy {
  readonly checkout: Checkout;
  readonly variant: Variant;
  readonly tag: string;
  /** Another folder of the action than the repository's own. */
  readonly action: string;
}

export const makeCheckout = (): Promise<Checkout> =>
  projectFiles({ 'compose.yaml': compose(), 'nginx/site.conf': ROUTER_SITE, 'site/release': '' });

type RunOptions = Pick<ActionRequest, 'cancelAfter' | 'killAfter' | 'loseAfter' | 'onEntry'>;

/** Back to a kept release, by its id. */
export async function runRollback(
  checkout: Checkout,
  release: string,
  inputs: Readonly<Record<string, string>> = {},
  options: RunOptions = {},
): Promise<ActionRun> {
  const server = theServer();
  const key = await deployKey();
  return runAction({
    action: 'action-rollback',
    workspace: checkout.folder,
    secrets: [key],
    limitSeconds: 240,
    ...options,
    with: {
      host: server.address,
      'ssh-key': key,
      'known-hosts': server.knownHosts,
      project: 'shop',
      release,
      lease: `${LEASE_SECONDS}`,
      timeout: '30',
      ...inputs,
    },
  });
}

export async function runDeploy(
  { checkout, variant, tag, action }: Deploy,
  inputs: Readonly<Record<string, string>> = {},
  options: RunOptions = {},
): Promise<ActionRun> {
  await checkout.write({ 'site/release': `${tag}\n` });
  const server = theServer();
  const key = await deployKey();
  return runAction({
    action,
    workspace: checkout.folder,
    secrets: [key],
    limitSeconds: 240,
    ...options,
    with: {
      host: server.address,
      'ssh-key': key,
      'known-hosts': server.knownHosts,
      files: 'nginx\nsite',
      variables: `TAG=${tag}\nSTATEFUL=${variant === 'stop-first' ? tag : STEADY}`,
      lease: `${LEASE_SECONDS}`,
      timeout: '30',
      'keep-releases': '2',
      ...inputs,
    },
  });
}

/** What visitors get, all at about one time. */
export interface Served {
  /** Every answer of the routed service, through the router; with what was shipped beside its image. */
  readonly app: readonly string[];
  readonly ledger: string;
  /** Who lives on the volume of the service that nobody can ask. */
  readonly vault: readonly string[];
}

export async function look(): Promise<Served> {
  const answers: string[] = [];
  for (let asked = 0; asked < 4; asked++) answers.push(await get(8080), await get(8080, '/site'));
  return { app: [...new Set(answers)].sort(), ledger: await get(8081), vault: await readBeats('shop_vault') };
}

/** The one release that serves, whole; or what is wrong. */
export function judge(served: Served, variant: Variant): { readonly tag: string } | { readonly problem: string } {
  const text = `app ${served.app.join(' and ')}; ledger ${served.ledger}; vault ${served.vault.join(' and ') || 'nobody'}`;
  const [tag = '', ...more] = served.app;
  const stateful = variant === 'stop-first' ? tag : STEADY;
  const whole =
    more.length === 0 &&
    (TAGS as readonly string[]).includes(tag) &&
    served.ledger === stateful &&
    served.vault.length === 1 &&
    served.vault[0] === stateful;
  return whole ? { tag } : { problem: text };
}

/**
 * Waits until one whole release serves, and goes on doing so for a second.
 *
 * @returns which one; or what was seen last
 */
export async function waitForWhole(
  variant: Variant,
  limitSeconds: number,
): Promise<{ readonly tag: string } | { readonly problem: string }> {
  const end = Date.now() + limitSeconds * 1000;
  let since = 0;
  let tag = '';
  for (;;) {
    const found = judge(await look(), variant);
    if ('tag' in found && found.tag === tag) {
      if (Date.now() - since >= 1000) return found;
    } else {
      since = Date.now();
      tag = 'tag' in found ? found.tag : '';
    }
    if (Date.now() > end) return 'tag' in found ? { problem: `only just: ${found.tag}` } : found;
    await sleep(100);
  }
}
