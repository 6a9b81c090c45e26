/** One release as `release.json` in the store says it. Holds no secret. */
export interface Release {
  /** UTC time and short commit: `20261122T223100Z-ab12cd3`. Sorts by time. */
  readonly id: string;
  readonly project: string;
  /** RFC 3339, UTC. */
  readonly created: string;
  readonly commit: string;
  readonly ref: string;
  readonly actor: string;
  readonly runUrl: string;
  /** `adopted`: what ran before the first deploy, recorded as it was found. */
  readonly result: 'healthy' | 'adopted';
  /** Names of the health checks that it had to pass. */
  readonly checks: readonly string[];
  readonly services: Readonly<Record<string, ReleasedService>>;
  /** Command in a service that says what its database's schema is; what it said is kept beside it. */
  readonly schema?: SchemaQuestion;
  /** Where it is a rollback: the release that it brings back, and the one that served before, which had to go. */
  readonly rollback?: { readonly of: string; readonly from: string };
  /** Id of the backup that was taken just before it went live. */
  readonly backup?: string;
  /** SHA-256 addresses below `files/` that the release's mounts point to. */
  readonly files: readonly string[];
}

export interface SchemaQuestion {
  readonly service: string;
  readonly command: readonly string[];
}

export interface ReleasedService {
  /** What the Compose file asked for: `postgres:17`. */
  readonly reference: string;
  /** What runs: `postgres:17@sha256:...`; the reference itself for an adopted release. */
  readonly image: string;
  /** Compose's own hash of the service's configuration. */
  readonly configHash: string;
}
