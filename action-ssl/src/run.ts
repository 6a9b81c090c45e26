/** The story of a certificate: inputs -> facts -> plan -> rehearsal -> order -> what is served -> report. */
import { randomBytes } from 'node:crypto';
import { type Order, renderOrder } from '#shared/commands/certificates';
import { CertificateError, type PreflightFinding, RehearsalError, SlipwayError } from '#shared/errors';
import type { CertificatePorts, Dns, Session } from '#shared/ports';
import { isAllowedAnyway } from '#shared/tls/authority';
import { type Certificate, judgeTime, shareLeft } from '#shared/tls/certificate';
import type { CertificateHost, Lineage } from '#shared/tls/facts';
import { openProgram, renderAllowance, renderHandover, type RunVerb, useProgram } from '#shared/tls/privileged';
import {
  askAddresses,
  judgeAddresses,
  judgeClock,
  judgeProfile,
  listAddresses,
  type NameAddresses,
  NEWER_CERTBOT,
  rehearseCaa,
  rehearsePath,
} from '#shared/tls/rehearsal';
import {
  describeFronts,
  judgeServed,
  lookAtServed,
  type LookOptions,
  type ServerAddresses,
  type Served,
  setUnseenApart,
  waitForServed,
} from '#shared/tls/served';
import { type AuthorityFacts, listServerAddresses, readDirectory, readHost, readLineage, readWindow } from './facts';
import { type Inputs, listSecrets, type NginxTarget, readInputs } from './inputs';
import { type Decision, decideOrder, decideRenewal, judgeTimers } from './plan';
import { createReport, renderLeft, renderOutputs, renderSummary, type Report } from './report';

/** @throws InputError, ConnectError, RehearsalError, CertificateError, CancelledError */
export async function run(ports: CertificatePorts): Promise<void> {
  const { runner, reporter, clock } = ports;
  const inputs = readInputs((name) => runner.input(name));
  for (const secret of listSecrets(inputs)) reporter.hide(secret);
  const report: Report = { ...createReport(inputs.mode), name: inputs.name, authority: inputs.authority.label };
  let problems: readonly string[] = [];
  try {
    await dealWith(inputs, ports, report);
  } catch (error) {
    report.result = 'failed';
    problems = listProblems(error);
    throw error;
  } finally {
    const outputs = renderOutputs(report, clock.now());
    runner.setOutput('result', outputs.result);
    runner.setOutput('certificate-name', outputs['certificate-name']);
    runner.setOutput('names', outputs.names);
    runner.setOutput('issuer', outputs.issuer);
    runner.setOutput('fingerprint', outputs.fingerprint);
    runner.setOutput('expires', outputs.expires);
    runner.setOutput('days-left', outputs['days-left']);
    runner.setOutput('life-left', outputs['life-left']);
    runner.setOutput('next-renewal', outputs['next-renewal']);
    runner.setOutput('served', outputs.served);
    runner.setOutput('results', outputs.results);
    for (const { title, text } of report.warnings) reporter.warning(title, text);
    await reporter.summary(renderSummary(report, problems, clock.now()));
  }
}

function listProblems(error: unknown): readonly string[] {
  if (error instanceof RehearsalError) return error.findings.map(({ message, hint }) => `${message}. ${hint}`);
  return error instanceof SlipwayError ? error.message.split('\n') : [];
}

/** What a run has at hand. */
interface Scene {
  readonly inputs: Inputs;
  readonly ports: CertificatePorts;
  readonly report: Report;
  readonly dns: Dns;
  readonly session: Session;
  readonly host: CertificateHost;
}

async function dealWith(inputs: Inputs, ports: CertificatePorts, report: Report): Promise<void> {
  const dns = ports.openDns(inputs.dnsServers);
  if (inputs.host === undefined) {
    await check(inputs, ports, report, dns, undefined);
    return;
  }
  const session = await ports.connect(inputs.host, { signal: ports.signal });
  try {
    const host = await readHost(session, inputs, ports.signal);
    const scene: Scene = { inputs, ports, report, dns, session, host };
    report.timers = host.timers;
    switch (inputs.mode) {
      case 'obtain':
      case 'renew':
        await provide(scene);
        break;
      case 'check':
      case 'info':
        await check(inputs, ports, report, dns, scene);
        break;
      case 'revoke':
        await revoke(scene);
    }
  } finally {
    await session.close();
  }
}

// --- obtain, renew -----------------------------------------------------------------------------------------------------

async function provide(scene: Scene): Promise<void> {
  const { inputs, ports, report, session, host } = scene;
  const { clock, reporter, signal } = ports;
  const verb = await openProgram(session, host, listUnusualAuthorities(inputs), signal);
  const lineage = await readLineage(session, verb, inputs, signal);
  refuseForeign(session, inputs, lineage);
  if (inputs.mode === 'renew' && lineage.chain.length === 0) throw refuseMissing(session, inputs, lineage);
  const authority = await readDirectory(ports, session, inputs);
  const certificate = lineage.chain[0];
  const window = await readWindow(ports, session, inputs, authority.directory, certificate);
  const renewal = certificate && decideRenewal(certificate, window);
  const decision = decideOrder(inputs, lineage, renewal, clock.now());
  report.certificate = certificate;
  report.renewal = renewal;
  report.reasons = decision.reasons;
  reporter.line(describeDecision(inputs, decision, certificate, clock.now()));

  const names = inputs.mode === 'obtain' ? inputs.domains : (certificate?.names ?? []);
  const asked = await askAddresses(scene.dns, names);
  if (decision.kind !== 'keep' || inputs.dryRun) await rehearse(scene, verb, lineage, authority, asked);
  if (inputs.dryRun) {
    report.result = 'rehearsed';
    return;
  }
  await verb('set-nginx', [inputs.name, ...renderTarget(inputs.nginx)], { purpose: 'note which nginx it is', signal });
  // What was interrupted behind an order is put right here, and where all is well nothing happens.
  const said = decision.kind === 'keep' ? await publish(scene, verb) : await order(scene, verb, certificate);
  await verb('set-timer', [], { purpose: 'see to automatic renewal', signal });
  const { rehearsalUrl } = inputs.authority;
  if (rehearsalUrl !== '' && (decision.kind === 'first' || decision.kind === 'change')) {
    await tell(scene, 'Rehearse the renewal', (onLine) =>
      verb('renew', [inputs.name, 'dry', rehearsalUrl], {
        purpose: 'rehearse the renewal',
        signal,
        timeoutSeconds: ORDER_SECONDS,
        onLine,
      }),
    );
  }
  await prove(scene, verb, authority, asked, listUnread(said));
  report.result = decision.kind === 'keep' ? 'kept' : decision.kind === 'renewal' ? 'renewed' : 'obtained';
}

/** certbot waits up to some minutes for an authority that is busy. */
const ORDER_SECONDS = 1200;

/** Those that root has to allow. */
function listUnusualAuthorities({ mode, authority }: Inputs): readonly string[] {
  const urls = mode === 'obtain' ? [authority.url, authority.rehearsalUrl] : [authority.rehearsalUrl];
  return [...new Set(urls)].filter((url) => url !== '' && !isAllowedAnyway(url));
}

function refuseForeign(session: Session, { name }: Inputs, lineage: Lineage): void {
  if (!lineage.isForeign) return;
  throw new CertificateError(
    `certbot on ${session.where} has the certificate ${name} for somebody else, and Slipway leaves that alone.`,
    `Give another \`certificate-name\`, or hand it over, on the server, as root:\n${renderHandover(name)}`,
  );
}

function refuseMissing(session: Session, { name }: Inputs, lineage: Lineage): CertificateError {
  const there = lineage.names.length === 0 ? 'certbot has none at all' : `there are ${lineage.names.join(', ')}`;
  return new CertificateError(
    `There is no certificate ${name} on ${session.where}; ${there}.`,
    'Use `mode: obtain`, or correct certificate-name.',
  );
}

function describeDecision(inputs: Inputs, decision: Decision, certificate: Certificate | undefined, now: Date): string {
  if (decision.kind !== 'keep')
    return `A certificate is to be ordered from ${inputs.authority.label}: ${decision.reasons.join('; ')}.`;
  return `The certificate ${inputs.name} is good${certificate === undefined ? '' : ` (${renderLeft(certificate, now)} left)`}: nothing is to be ordered.`;
}

function renderTarget(nginx: NginxTarget): readonly string[] {
  return nginx.kind === 'compose' ? ['compose', nginx.project, nginx.service] : [nginx.kind];
}

/** The server's own words, in a group of the log. */
async function tell<T>(
  { ports }: Scene,
  title: string,
  body: (onLine: (line: string) => void) => Promise<T>,
): Promise<T> {
  return ports.reporter.group(title, () =>
    body((line) => {
      ports.reporter.remote(line);
    }),
  );
}

/** @param replaced what was looked at: if it is another one by now, an earlier run has done the work, and nothing is ordered again */
async function order(scene: Scene, verb: RunVerb, replaced: Certificate | undefined): Promise<string> {
  const { inputs, ports } = scene;
  const options = { purpose: 'obtain the certificate', signal: ports.signal, timeoutSeconds: ORDER_SECONDS };
  return tell(scene, 'Order', (onLine) =>
    inputs.mode === 'renew'
      ? verb('renew', [inputs.name, 'now', ...(replaced === undefined ? [] : [replaced.fingerprint])], {
          ...options,
          onLine,
        })
      : verb('obtain', renderOrder(describeOrder(inputs), 'obtain', replaced?.fingerprint), { ...options, onLine }),
  );
}

function describeOrder(inputs: Inputs): Order {
  const { name, domains, email, keyType, profile, challenge, webroot } = inputs;
  return { name, domains, server: inputs.authority.url, email, keyType, profile, challenge, webroot };
}

async function publish(scene: Scene, verb: RunVerb): Promise<string> {
  const { inputs, ports } = scene;
  return tell(scene, 'Publish', (onLine) =>
    verb('publish', [inputs.name], {
      purpose: 'publish the certificate',
      signal: ports.signal,
      timeoutSeconds: 180,
      onLine,
    }),
  );
}

/** The words of slipway-tls where there was no nginx to be reloaded: they tell why nothing else is served. Pure. */
export function listUnread(said: string): readonly string[] {
  const words = said.split('\n').filter((line) => /^\s*(?:no container of |nginx does not run )/.test(line));
  return [...new Set(words.map((line) => `${line.trim()}.`))];
}

// --- the rehearsal -----------------------------------------------------------------------------------------------------

/** @throws RehearsalError with everything that is in the way, before an order */
async function rehearse(
  scene: Scene,
  verb: RunVerb,
  lineage: Lineage,
  authority: AuthorityFacts,
  asked: readonly NameAddresses[],
): Promise<void> {
  const { inputs, ports, report, session, host } = scene;
  const { reporter, signal } = ports;
  await reporter.group('Rehearsal', async () => {
    const { own, front } = await listServerAddresses(inputs, host, scene.dns);
    const leading = [...own, ...front];
    const findings: PreflightFinding[] = authority.finding === undefined ? [] : [authority.finding];
    for (const url of listUnusualAuthorities(inputs).filter((one) => !lineage.authorities.includes(one))) {
      findings.push({
        message: `root of ${session.where} has not allowed the authority ${url}`,
        hint: `Type on the server, as root: ${renderAllowance([url])}`,
      });
    }
    findings.push(...judgeProfile(inputs.profile, host.certbot, authority.directory));
    const now = authority.date ?? ports.clock.now();
    const skew = judgeClock(session.where, host.clockSeconds - now.getTime() / 1000);
    if (skew !== undefined) findings.push(skew);
    const applicant = { identities: authority.directory?.identities ?? [], accounts: lineage.accounts };
    for (const one of asked) {
      findings.push(...judgeAddresses(one, leading));
      const caa = await rehearseCaa(scene.dns, one.name, applicant);
      findings.push(...caa.findings);
      report.warnings.push(...caa.warnings);
    }
    report.warnings.push(...warnOfOtherView(host, asked));
    const method =
      inputs.mode === 'renew' ? (lineage.settings.get('authenticator') ?? inputs.challenge) : inputs.challenge;
    if (method === 'webroot') findings.push(...(await rehearseWebroot(scene, verb, lineage, asked, leading)));
    if (method === 'standalone' && host.isHttpPortTaken) {
      findings.push({
        message: `Something listens on port 80 of ${session.where}, so certbot cannot`,
        hint: 'Use `challenge: webroot`, which needs no pause of what serves.',
      });
    }
    for (const { message } of findings) reporter.remote(`✗ ${message}`);
    if (findings.length > 0) throw new RehearsalError(`The certificate ${inputs.name}`, findings);
    const way = method === 'webroot' ? ' and the way to port 80 are' : ' is';
    for (const { name, ...answers } of asked) {
      report.rehearsed.push(`${name}: ${listAddresses({ name, ...answers }).join(', ')}; CAA${way} right`);
    }
    for (const line of report.rehearsed) reporter.remote(`✓ ${line}`);
  });
  await install(scene, verb);
  // A renewal keeps the one that is there; an order without one ends what was noted for an earlier authority.
  if (inputs.acmeCa !== '' || (inputs.mode === 'obtain' && lineage.settings.has('private_ca'))) {
    await verb('set-ca', [inputs.name], { purpose: 'note the private authority', signal, stdin: inputs.acmeCa });
  }
  await rehearseOrder(scene, verb, authority);
}

/** The server may see a name in another way than everybody else: that breaks nothing here, and puzzles people. */
function warnOfOtherView(host: CertificateHost, asked: readonly NameAddresses[]): Report['warnings'] {
  return asked.flatMap(({ name, ...answers }) => {
    const [ours, theirs] = [listAddresses({ name, ...answers }), host.seen.get(name) ?? []];
    const isSame = theirs.every((one) => ours.includes(one) || one.startsWith('127.') || one === '::1');
    if (isSame || ours.length === 0) return [];
    const text = `${name} is ${ours.join(', ')} for the runner, and ${theirs.join(', ')} for the server itself (its DNS, or /etc/hosts).`;
    return [{ title: `Two views of ${name}`, text }];
  });
}

/** A token as an authority's, put where it would be looked for, and asked for under each name at each address. */
async function rehearseWebroot(
  { inputs, ports, session }: Scene,
  verb: RunVerb,
  lineage: Lineage,
  asked: readonly NameAddresses[],
  leading: readonly string[],
): Promise<readonly PreflightFinding[]> {
  const webroot = inputs.mode === 'renew' ? (lineage.settings.get('webroot_path') ?? inputs.webroot) : inputs.webroot;
  const token = `slipway-${randomBytes(18).toString('base64url')}`;
  await verb('probe', [webroot, token], { purpose: `put a file into ${webroot}`, signal: ports.signal });
  try {
    const options = {
      http: ports.http,
      signal: ports.signal,
      dial: (host: string, port: number) => session.dial(host, port),
    };
    const pairs = asked.flatMap((one) =>
      listAddresses(one)
        .filter((address) => leading.includes(address))
        .map((address) => ({ name: one.name, address })),
    );
    const rehearsed = await Promise.all(
      pairs.map(({ name, address }) => rehearsePath(name, address, token, webroot, options)),
    );
    return rehearsed.flatMap(({ finding }) => (finding === undefined ? [] : [finding]));
  } finally {
    // Also when the workflow was cancelled; a file that stays goes an hour later, with the next rehearsal.
    await verb('unprobe', [webroot, token], { purpose: 'take the file away', timeoutSeconds: 5 }).catch(
      () => undefined,
    );
  }
}

/** certbot, if it is not there. Only then is it known which one it is. */
async function install(scene: Scene, verb: RunVerb): Promise<void> {
  const { inputs, ports, session, report } = scene;
  if (scene.host.certbot !== undefined) return;
  await tell(scene, 'Install certbot', (onLine) =>
    verb('install-certbot', [], { purpose: 'install certbot', signal: ports.signal, timeoutSeconds: 600, onLine }),
  );
  const host = await readHost(session, inputs, ports.signal);
  report.timers = host.timers;
  report.warnings.push({
    title: 'certbot was installed',
    text: `certbot was installed from ${host.system.name}. Profiles need 4.0, renewal when the authority asks for it 4.1. ${NEWER_CERTBOT}`,
  });
  const findings = judgeProfile(inputs.profile, host.certbot, undefined);
  if (findings.length > 0) throw new RehearsalError(`The certificate ${inputs.name}`, findings);
}

/** The whole order, at the authority's place for rehearsals. */
async function rehearseOrder(scene: Scene, verb: RunVerb, authority: AuthorityFacts): Promise<void> {
  const { inputs, ports, report } = scene;
  const { rehearsalUrl } = inputs.authority;
  if (rehearsalUrl === '' || authority.directory === undefined) return;
  const options = { purpose: 'rehearse the order', signal: ports.signal, timeoutSeconds: ORDER_SECONDS };
  await tell(scene, 'Rehearsal of the order', (onLine) =>
    inputs.mode === 'renew'
      ? verb('renew', [inputs.name, 'dry', rehearsalUrl], { ...options, onLine })
      : verb('obtain', renderOrder({ ...describeOrder(inputs), server: rehearsalUrl }, 'rehearse'), {
          ...options,
          onLine,
        }),
  );
  report.rehearsed.push(`the order itself, at ${new URL(rehearsalUrl).host}`);
}

// --- what is served ----------------------------------------------------------------------------------------------------

function lookOptions(
  inputs: Inputs,
  ports: CertificatePorts,
  session: Session | undefined,
  server: ServerAddresses | undefined,
): LookOptions {
  return {
    readServedChain: ports.readServedChain,
    ca: inputs.acmeCa === '' ? undefined : inputs.acmeCa,
    server,
    signal: ports.signal,
    dial: session === undefined ? undefined : (host, port) => session.dial(host, port),
    now: ports.clock.now(),
  };
}

/** certbot's file, nginx's copy and what visitors get are one and the same. @throws CertificateError */
async function prove(
  scene: Scene,
  verb: RunVerb,
  authority: AuthorityFacts,
  asked: readonly NameAddresses[],
  unread: readonly string[],
): Promise<void> {
  const { inputs, ports, report, session } = scene;
  const [lineage, host] = [
    await readLineage(session, verb, inputs, ports.signal),
    await readHost(session, inputs, ports.signal),
  ];
  const certificate = lineage.chain[0];
  report.certificate = certificate;
  report.timers = host.timers;
  if (certificate === undefined) {
    throw new CertificateError(
      `certbot has no certificate ${inputs.name} on ${session.where}, although it said nothing.`,
      '',
    );
  }
  const window = await readWindow(ports, session, inputs, authority.directory, certificate);
  report.renewal = decideRenewal(certificate, window);
  const timers = judgeTimers(host.timers, lineage.crons);
  if (timers.warning !== '') report.warnings.push({ title: 'Several renewals', text: timers.warning });
  const look = lookOptions(inputs, ports, session, await listServerAddresses(inputs, host, scene.dns));
  report.served =
    inputs.nginx.kind === 'none'
      ? await lookAtServed(asked, certificate, look)
      : await waitForServed(asked, certificate, look, ports.clock);
  warnOfFronts(report);
  const mustBeTrusted = inputs.authority.label === "Let's Encrypt";
  const problems = [
    ...(timers.problem === '' ? [] : [timers.problem]),
    ...(host.published[0]?.fingerprint === certificate.fingerprint
      ? []
      : ['What nginx reads is not what certbot has.']),
    // With another program in front, what it serves is its own affair.
    ...(inputs.nginx.kind === 'none' ? [] : judgeServed(withoutFronts(report), certificate, { mustBeTrusted })),
  ];
  if (problems.length > 0) throw failProof(inputs.name, [...problems, ...unread]);
}

const withoutFronts = ({ served }: Report): readonly Served[] => served.filter((one) => one.isFront !== true);

function warnOfFronts(report: Report): void {
  for (const text of describeFronts(report.served))
    report.warnings.push({ title: 'Another certificate in front', text });
}

function failProof(name: string, problems: readonly string[]): CertificateError {
  return new CertificateError(
    `The certificate ${name} is not what is served:\n${problems.map((one) => `- ${one}`).join('\n')}`,
    `nginx has to read /etc/slipway/tls/${name}/current/fullchain.pem and privkey.pem in a \`server\` with \`listen 443 ssl\` for these names, on every address. If it does, was it reloaded? An nginx in a container has to be named in \`nginx\`.`,
  );
}

// --- check, info -------------------------------------------------------------------------------------------------------

async function check(
  inputs: Inputs,
  ports: CertificatePorts,
  report: Report,
  dns: Dns,
  scene: Scene | undefined,
): Promise<void> {
  const { clock } = ports;
  const problems: string[] = [];
  if (scene !== undefined) problems.push(...(await checkServer(scene)));
  const names = inputs.domains.length > 0 ? inputs.domains : (report.certificate?.names ?? []);
  const asked = await askAddresses(dns, names);
  for (const one of asked) {
    if (listAddresses(one).length === 0) problems.push(describeUnknown(one));
  }
  const server = scene && (await listServerAddresses(inputs, scene.host, dns));
  const look = lookOptions(inputs, ports, scene?.session, server);
  const { served, unseen } = setUnseenApart(await lookAtServed(asked, report.certificate, look));
  report.served = served;
  warnOfFronts(report);
  for (const { name, address, problem } of unseen) {
    const text = `${name} at ${address} was not looked at: ${problem}. With \`host\`, the server looks itself.`;
    report.warnings.push({ title: `Not looked at: ${name} at ${address}`, text });
  }
  problems.push(...judgeServed(report.served, report.certificate, { mustBeTrusted: true }));
  report.certificate ??= report.served.find((one) => one.certificate !== undefined)?.certificate;
  if (report.certificate !== undefined) report.renewal ??= decideRenewal(report.certificate, undefined);
  problems.push(...judgeLife(report, inputs.minimumLife, clock.now()));
  if (inputs.mode === 'info') {
    report.result = 'reported';
    for (const text of problems) report.warnings.push({ title: `Certificate ${inputs.name}`, text });
    return;
  }
  if (problems.length > 0) {
    throw new CertificateError(
      `The certificate ${inputs.name} is not as it should be:\n${problems.map((one) => `- ${one}`).join('\n')}`,
      'Run `mode: obtain`, which puts most of it right; /var/log/letsencrypt/letsencrypt.log on the server says why renewals failed.',
    );
  }
  report.result = 'checked';
}

/** No answer is not the same as none. */
function describeUnknown({ name, a, aaaa }: NameAddresses): string {
  const failed = [a, aaaa].find((one) => one.kind === 'failed');
  return failed === undefined
    ? `${name} has no address in DNS.`
    : `DNS gives no answer about ${name}: ${failed.reason}.`;
}

/** What is on the server, as far as we may see it. @returns what is wrong */
async function checkServer(scene: Scene): Promise<readonly string[]> {
  const { inputs, ports, report, session, host } = scene;
  const [published] = host.published;
  report.certificate = published;
  const verb = useProgram(session, host);
  const lineage = 'obstacle' in verb ? undefined : await readLineage(session, verb, inputs, ports.signal);
  if ('obstacle' in verb) {
    report.warnings.push({
      title: 'certbot was not asked',
      text:
        `certbot's own files on ${session.where} were not looked at, since ${verb.obstacle}: whether it has a newer certificate than nginx ` +
        'reads, and whether cron renews, too, is not known. `mode: obtain` with this release puts that right, or says what root has to type.',
    });
  }
  const timers = judgeTimers(host.timers, lineage?.crons ?? []);
  if (timers.warning !== '') report.warnings.push({ title: 'Several renewals', text: timers.warning });
  const problems = timers.problem === '' ? [] : [`On the server ${timers.problem}`];
  if (published === undefined) {
    return [...problems, `There is no certificate in /etc/slipway/tls/${inputs.name}/current on ${session.where}.`];
  }
  const newest = lineage?.chain[0];
  if (newest !== undefined && newest.fingerprint !== published.fingerprint) {
    problems.push('certbot has another certificate than nginx reads: a renewal could not be published.');
  }
  const authority = await readDirectory(ports, session, inputs);
  report.renewal = decideRenewal(published, await readWindow(ports, session, inputs, authority.directory, published));
  return problems;
}

/**
 * Each certificate once, whoever serves it: one that is not valid now is wrong whatever the least is. So is one whose renewal
 * the authority wanted to be done by now: it may revoke it with much of its life left. Pure.
 */
export function judgeLife(
  { certificate, served, renewal }: Pick<Report, 'certificate' | 'served' | 'renewal'>,
  minimum: number,
  now: Date,
): string[] {
  const all = [certificate, ...served.map((one) => one.certificate)].filter((one) => one !== undefined);
  const distinct = new Map(all.map((one) => [one.fingerprint, one]));
  const problems = [...distinct.values()].flatMap((one) => {
    const what = `The certificate for ${one.names.join(', ')}`;
    const time = judgeTime(one, now);
    if (time !== '') return [`${what} ${time}.`];
    if (shareLeft(one, now) >= minimum) return [];
    return [`${what} has only ${renderLeft(one, now)} left; ${Math.round(minimum * 100)}% is the least.`];
  });
  const until = renewal?.until;
  if (until === undefined || until >= now) return problems;
  return [
    ...problems,
    `The authority asked for its renewal by ${until.toISOString()}, and it may revoke it: \`mode: obtain\` renews it now.`,
  ];
}

// --- revoke ------------------------------------------------------------------------------------------------------------

async function revoke(scene: Scene): Promise<void> {
  const { inputs, ports, report, session, host } = scene;
  const { signal } = ports;
  const verb = await openProgram(session, host, [], signal);
  const lineage = await readLineage(session, verb, inputs, signal);
  refuseForeign(session, inputs, lineage);
  report.certificate = lineage.chain[0];
  if (lineage.chain.length === 0) throw refuseMissing(session, inputs, lineage);
  await tell(scene, 'Revoke', (onLine) =>
    verb('revoke', [inputs.name, inputs.reason], {
      purpose: 'revoke the certificate',
      signal,
      timeoutSeconds: ORDER_SECONDS,
      onLine,
    }),
  );
  report.result = 'revoked';
  report.warnings.push({
    title: 'Revoked, and still served',
    text: `nginx goes on serving the revoked certificate. Get a new one: \`mode: obtain\` with \`renew-now: true\`.`,
  });
}
