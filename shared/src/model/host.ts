import type { Secret } from './secret';

/** How the server proves that it is the one we mean. Exactly one of the two is needed; both may be given. */
export interface HostTrust {
  /** Lines of a known_hosts file (sshd(8), "SSH_KNOWN_HOSTS FILE FORMAT"). */
  readonly knownHosts: string;
  /** `SHA256:` and the base64 digest of the host key, as `ssh-keygen -lf` prints it. */
  readonly fingerprint: string;
}

/** A server reached over SSH. */
export interface SshHost {
  readonly kind: 'ssh';
  /** Name or address, without port or brackets. */
  readonly address: string;
  readonly port: number;
  readonly user: string;
  readonly privateKey: Secret;
  readonly passphrase: Secret;
  readonly trust: HostTrust;
}

/** The machine that runs the action itself (a self-hosted runner on the server). */
export interface LocalHost {
  readonly kind: 'local';
}

export type Host = SshHost | LocalHost;

/** How a host is called in messages: `deploy@203.0.113.7`, with the port where it is not 22, or `this machine`. */
export function describeHost(host: Host): string {
  switch (host.kind) {
    case 'local':
      return 'this machine';
    case 'ssh': {
      const address = host.address.includes(':') ? `[${host.address}]` : host.address;
      return `${host.user}@${address}${host.port === 22 ? '' : `:${host.port}`}`;
    }
  }
}
