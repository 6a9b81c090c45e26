/** The narrow interfaces that effects go through. `adapters/` implements them, `test/fakes/` imitates them, `start.ts` builds them. */
import type { Duplex, Readable, Writable } from 'node:stream';
import type { Command } from './model/command';
import type { Host } from './model/host';
import type { Secret } from './model/secret';
import type { Palette } from './model/palette';

export interface RunOptions {
  /** Wall time after which the command's channel is closed and TimeoutError thrown. Default 60. */
  readonly timeoutSeconds?: number;
  readonly signal?: AbortSignal;
  /** Exit codes that are answers, not failures. Default `[0]`; `'any'` accepts all. */
  readonly accept?: readonly number[] | 'any';
  /** Each whole line of output as it comes, already redacted. */
  readonly onLine?: (line: string, stream: 'stdout' | 'stderr') => void;
  /** What the command does, in the infinitive, for messages: "read the release store". */
  readonly purpose?: string;
}

export interface Completed {
  readonly exitCode: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** A process on the server that lives on while we talk to it. */
export interface ServerProcess {
  readonly stdin: Writable;
  readonly stdout: Readable;
  readonly stderr: Readable;
  /** Resolves with the exit code; rejects with ConnectError when the connection or the process was lost (signal, no exit code). */
  readonly exit: Promise<number>;
  /** Closes our side at once; the process gets SIGHUP/end of input, nothing more is promised. */
  close(): void;
}

/** An open way to run programs on one server. */
export interface Session {
  /** As describeHost() says it. */
  readonly where: string;
  /** @throws CommandError on an exit code that is not accepted, TimeoutError, CancelledError, ConnectError on a lost connection. */
  run(command: Command, options?: RunOptions): Promise<Completed>;
  start(command: Command): Promise<ServerProcess>;
  /** A TCP connection made from the server, as `ssh -L` does. @throws ConnectError */
  dial(host: string, port: number): Promise<Duplex>;
  close(): Promise<void>;
}

/** Where commands run: a session itself, or the guardian of a project on it. */
export type Remote = Pick<Session, 'where' | 'run'>;

export interface ConnectOptions {
  /** Deadline of the whole connect and login. Default 20. */
  readonly timeoutSeconds?: number;
  readonly signal?: AbortSignal;
}

export type Connect = (host: Host, options?: ConnectOptions) => Promise<Session>;

export interface Clock {
  /** Wall time. */
  now(): Date;
  /** Milliseconds that only go forward, for durations and deadlines. */
  monotonicMs(): number;
  /** @throws CancelledError at once when the signal is aborted. */
  sleep(seconds: number, signal?: AbortSignal): Promise<void>;
}

/** What the runner tells of the workflow run. Empty strings where it does not say. */
export interface RunContext {
  readonly workspace: string;
  readonly repository: string;
  readonly commit: string;
  readonly ref: string;
  readonly actor: string;
  readonly runUrl: string;
  /** What started the workflow: `push`, `workflow_dispatch`. Empty outside of GitHub. */
  readonly event: string;
}

/** The GitHub Actions runner. */
export interface Runner {
  readonly context: RunContext;
  /** The text of an input, trimmed; defaults of action.yml are already in it. */
  input(name: string): string;
  /** As `input`, not trimmed. */
  rawInput(name: string): string;
  setOutput(name: string, value: string): void;
  saveState(name: string, value: string): void;
  state(name: string): string;
}

/** Where people read. Every text is redacted on its way; text from the server goes through `remote`. */
export interface Reporter {
  /** Colours, where they are wanted. */
  readonly palette: Palette;
  /** Hides a value and its derived forms from here on, in our output and in the runner's log. */
  hide(value: string): void;
  redact(text: string): string;
  line(text: string): void;
  /** Text that came from a server or a container: shown, but never obeyed as a workflow command. */
  remote(text: string): void;
  group<T>(title: string, body: () => Promise<T>): Promise<T>;
  notice(title: string, text: string): void;
  warning(title: string, text: string): void;
  error(title: string, text: string): void;
  /** Appends Markdown to the job summary. */
  summary(markdown: string): Promise<void>;
}

/** How a TCP connection is made: by this machine, or through `Session.dial` from the server. */
export type Dial = (host: string, port: number) => Promise<Duplex>;

/** What a request and a bare connection have in common. */
export interface ConnectionRequest {
  /** Covers everything: name resolution, connection, TLS, answer, body. */
  readonly timeoutSeconds: number;
  readonly signal?: AbortSignal | undefined;
  /** Default: from this machine. */
  readonly dial?: Dial | undefined;
  /** Certificates in PEM form to trust beside the usual ones. The server's certificate is always verified. */
  readonly ca?: string | undefined;
}

/** One HTTP request: one hop, redirects are answers. */
export interface HttpRequest extends ConnectionRequest {
  readonly method: 'GET' | 'HEAD' | 'POST';
  readonly url: string;
  readonly headers?: Readonly<Record<string, string | Secret>>;
  /** Of a POST. */
  readonly content?: string;
  /** Reading stops there, and the response says so. Default 1 MiB. */
  readonly maxBodyBytes?: number;
  /** Connect there instead; Host, SNI and the certificate's name stay those of the URL. */
  readonly connectTo?: { readonly host: string; readonly port: number } | undefined;
}

/** The certificate that a server has shown. */
export interface PeerCertificate {
  readonly validFrom: Date;
  readonly validTo: Date;
  /** DNS names and IP addresses that it is for. */
  readonly names: readonly string[];
  /** Whoever signed it: organisation or common name. */
  readonly issuer: string;
  /** SHA-256 of the certificate, in hexadecimal with colons. */
  readonly fingerprint256: string;
}

export interface HttpResponse {
  readonly status: number;
  /** Names in lower case; repeated headers joined by `, `. */
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string;
  /** The body was longer than `maxBodyBytes`. */
  readonly truncated: boolean;
  /** From the start (name resolution) to the body's end. */
  readonly latencyMs: number;
  /** Undefined for plain http. */
  readonly certificate: PeerCertificate | undefined;
}

/** A TCP connection that is opened and closed again, with a TLS handshake if `tls` is given. */
export interface ReachRequest extends ConnectionRequest {
  readonly host: string;
  readonly port: number;
  /** The name that the certificate must be for, also sent as SNI. */
  readonly tls?: { readonly serverName: string } | undefined;
}

export interface Reached {
  readonly latencyMs: number;
  readonly certificate: PeerCertificate | undefined;
}

export interface Http {
  /** @throws RequestError, CancelledError */
  request(request: HttpRequest): Promise<HttpResponse>;
  /** @throws RequestError, CancelledError */
  reach(request: ReachRequest): Promise<Reached>;
}

/** A file of the workspace that is shipped to the server. */
export interface ShippedFile {
  /** Relative to the workspace, with `/`. */
  readonly path: string;
  readonly executable: boolean;
  readonly content: Uint8Array;
}

/** The checked-out repository. */
export interface Workspace {
  /** Text of a file; undefined where there is none. Links that leave the workspace count as none. */
  read(path: string): Promise<string | undefined>;
  exists(path: string): Promise<boolean>;
  /** Every file that one of the globs matches, dotfiles included, sorted; problems are full sentences. */
  collect(
    globs: readonly string[],
  ): Promise<{ readonly files: readonly ShippedFile[]; readonly problems: readonly string[] }>;
}

/** Everything an action gets to have effects with. */
export interface Ports {
  readonly runner: Runner;
  readonly reporter: Reporter;
  readonly clock: Clock;
  readonly http: Http;
  readonly connect: Connect;
  readonly workspace: Workspace;
  readonly github: OpenGithub;
  /** Aborted when the workflow is cancelled. */
  readonly signal: AbortSignal;
}

/** A Deployment, as GitHub shows it on the page of a repository: https://docs.github.com/rest/deployments/deployments */
export interface DeploymentRequest {
  /** The full commit id. */
  readonly commit: string;
  readonly environment: string;
  readonly task: 'deploy' | 'rollback';
  /** At most 140 characters. */
  readonly description: string;
  /** Tells this Deployment from all others: by it one is found again whose creation got no answer. */
  readonly payload: Readonly<Record<string, string>>;
}

/** https://docs.github.com/rest/deployments/statuses. Empty URLs are left out. */
export interface DeploymentStatus {
  readonly state: 'in_progress' | 'success' | 'failure' | 'error' | 'inactive';
  /** At most 140 characters: GitHub refuses more. */
  readonly description: string;
  readonly logUrl: string;
  readonly environmentUrl: string;
}

/** Why GitHub has not done something. Full sentences, without the token. */
export interface GithubProblem {
  readonly message: string;
  readonly hint: string;
  /** It may work later: no answer, a fault of GitHub's, a rate limit. */
  readonly transient: boolean;
}

export type GithubAnswer<T> =
  { readonly ok: true; readonly value: T } | { readonly ok: false; readonly problem: GithubProblem };

/**
 * The Deployments of the repository that the workflow runs for. A record of the deploy and no part of it: nothing rejects,
 * and each call, with what it tries again, ends within `limitSeconds` (default 10).
 */
export interface GithubDeployments {
  /** @returns the Deployment's id. An earlier attempt that got no answer is not repeated if it worked. */
  create(request: DeploymentRequest, limitSeconds?: number): Promise<GithubAnswer<number>>;
  /** The Deployment that `create` made of this request, from another process for example. */
  find(request: DeploymentRequest, limitSeconds?: number): Promise<GithubAnswer<number | undefined>>;
  setStatus(deployment: number, status: DeploymentStatus, limitSeconds?: number): Promise<GithubAnswer<undefined>>;
}

export type OpenGithub = (token: Secret) => GithubDeployments;

/** Encryption to age's public keys: https://age-encryption.org/v1 */
export interface Cipher {
  /**
   * The stream of what `plain` gives, sealed for each of the recipients. Whoever stops reading it ends `plain` as well; if
   * `plain` fails, so does the stream.
   *
   * @param recipients each one checked by `isRecipient`; at least one
   */
  encrypt(plain: Readable, recipients: readonly string[]): Readable;
  /**
   * The stream fails with BackupError where the key does not fit, or the content was changed or cut off. What it gave until
   * then is genuine, but not all: only its end says that it is complete.
   *
   * @param identity checked by `isIdentity`
   */
  decrypt(sealed: Readable, identity: Secret): Readable;
  /** `age1...`: whether it is a public key that can be encrypted to. */
  isRecipient(text: string): boolean;
  /** Whether a text holds age private keys (`AGE-SECRET-KEY-1...`, one per line; comment lines and empty ones allowed). */
  isIdentity(text: string): boolean;
}

export interface StoredObject {
  readonly key: string;
  readonly bytes: number;
}

/** One bucket of an S3-compatible storage. Everything throws StorageError, or CancelledError. */
export interface ObjectStore {
  /** `s3://bucket`: no credentials in it. */
  readonly where: string;
  /**
   * Stores a stream with bounded memory, in parts; resolves when the object is there as a whole, and leaves none otherwise.
   *
   * @param bytes how long it is, at least roughly: it decides on the size of the parts, of which there are at most 10 000
   */
  put(key: string, content: Readable, bytes: number, signal?: AbortSignal): Promise<void>;
  /** The stream fails with StorageError where the storage gives less than it said, or nothing for a while. */
  get(key: string, signal?: AbortSignal): Promise<Readable>;
  /** All objects whose key begins with it, sorted by key. */
  list(prefix: string, signal?: AbortSignal): Promise<readonly StoredObject[]>;
  /** What is not there is no failure. */
  remove(keys: readonly string[], signal?: AbortSignal): Promise<void>;
}

export interface ObjectStoreRequest {
  /** URL of the storage's S3 interface; empty: that of AWS for the region. */
  readonly endpoint: string;
  readonly region: string;
  readonly bucket: string;
  readonly accessKeyId: string;
  readonly secretAccessKey: Secret;
}

export type OpenObjectStore = (request: ObjectStoreRequest) => ObjectStore;

/** What an action has that takes backups. */
export interface BackupPorts extends Ports {
  readonly cipher: Cipher;
  readonly openObjectStore: OpenObjectStore;
}

/** What DNS says of one name and type. `none`: the name does not exist, or has no such record. */
export type DnsAnswer<T> =
  | { readonly kind: 'records'; readonly records: readonly T[] }
  | { readonly kind: 'none' }
  | { readonly kind: 'failed'; readonly reason: string };

/** One CAA record: https://www.rfc-editor.org/rfc/rfc8659 */
export interface CaaRecord {
  readonly critical: boolean;
  /** `issue`, `issuewild`, `iodef`; others are there only to be refused when they are critical. */
  readonly tag: string;
  readonly value: string;
}

/** Questions to DNS itself, past the machine's own tables. Nothing rejects. */
export interface Dns {
  addresses(name: string, family: 4 | 6): Promise<DnsAnswer<string>>;
  caa(name: string): Promise<DnsAnswer<CaaRecord>>;
}

/** @param servers addresses, with a port where it is not 53; none means those of this machine */
export type OpenDns = (servers: readonly string[]) => Dns;

/** What a server shows, whatever it is worth. */
export interface ServedChain {
  /** In PEM form, its own first. */
  readonly certificates: readonly string[];
  /** Why TLS would not trust it, as OpenSSL's code, such as `CERT_HAS_EXPIRED`; empty where it would. Names are not looked at. */
  readonly refusal: string;
}

/** @throws RequestError, CancelledError */
export type ReadServedChain = (
  request: Omit<ReachRequest, 'tls'> & { readonly serverName: string },
) => Promise<ServedChain>;

/** What an action has that deals with certificates. */
export interface CertificatePorts extends Ports {
  readonly openDns: OpenDns;
  readonly readServedChain: ReadServedChain;
}
