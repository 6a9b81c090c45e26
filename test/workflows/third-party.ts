/**
 * Actions of others that our workflows name, each at the one commit that they are pinned to. They cannot be downloaded where
 * the tests run; what they take and give is written down here, so that GitHub's language service and the harness refuse the rest.
 */
export interface ThirdParty {
  readonly version: string;
  readonly inputs: readonly string[];
  readonly outputs: readonly string[];
}

/** By `owner/name@commit`. From the action.yml of that version, as far as our workflows could want it. */
export const THIRD_PARTY: Readonly<Record<string, ThirdParty>> = {
  'actions/checkout@de0fac2e4500dabe0009e67214ff5f5447ce83dd': {
    version: 'v6.0.2',
    inputs: ['repository', 'ref', 'token', 'persist-credentials', 'path', 'fetch-depth', 'submodules', 'lfs'],
    outputs: ['ref', 'commit'],
  },
  'docker/setup-buildx-action@4d04d5d9486b7bd6fa91e7baf45bbb4f8b9deedd': {
    version: 'v4.0.0',
    inputs: ['version', 'driver', 'driver-opts', 'buildkitd-flags', 'use', 'cleanup'],
    outputs: ['name', 'driver', 'platforms'],
  },
  'docker/login-action@4907a6ddec9925e35a0a9e82d7399ccc52663121': {
    version: 'v4.1.0',
    inputs: ['registry', 'username', 'password', 'ecr', 'logout'],
    outputs: [],
  },
  'docker/build-push-action@bcafcacb16a39f128d818304e6c9c0c18556b85f': {
    version: 'v7.1.0',
    inputs: [
      ...['context', 'file', 'target', 'platforms', 'build-args', 'secrets', 'tags', 'labels', 'push', 'pull'],
      ...['provenance', 'sbom', 'cache-from', 'cache-to', 'no-cache'],
    ],
    outputs: ['imageid', 'digest', 'metadata'],
  },
  'actions/attest@1e69f48acb82d1966a394da916b4c1698aa569d6': {
    version: 'v4.2.2',
    inputs: [
      'subject-name',
      'subject-digest',
      'subject-path',
      'sbom-path',
      'push-to-registry',
      'create-storage-record',
      'show-summary',
    ],
    outputs: ['bundle-path', 'attestation-id', 'attestation-url'],
  },
};

/** Of this repository's own workflows; of these, only the release is run here. */
export const OWN_THIRD_PARTY: Readonly<Record<string, ThirdParty>> = {
  'actions/setup-node@53b83947a5a98c8d113130e565377fae1a50d02f': {
    version: 'v6.3.0',
    inputs: ['node-version', 'node-version-file', 'cache', 'package-manager-cache'],
    outputs: ['cache-hit', 'node-version'],
  },
  'github/codeql-action/init@7211b7c8077ea37d8641b6271f6a365a22a5fbfa': {
    version: 'v4.36.0',
    inputs: ['languages', 'build-mode', 'queries', 'config-file'],
    outputs: [],
  },
  'github/codeql-action/upload-sarif@7211b7c8077ea37d8641b6271f6a365a22a5fbfa': {
    version: 'v4.36.0',
    inputs: ['sarif_file', 'category', 'wait-for-processing'],
    outputs: [],
  },
  'ossf/scorecard-action@4eaacf0543bb3f2c246792bd56e8cdeffafb205a': {
    version: 'v2.4.3',
    inputs: ['results_file', 'results_format', 'repo_token', 'publish_results', 'file_mode'],
    outputs: [],
  },
  'aquasecurity/trivy-action@ed142fd0673e97e23eac54620cfb913e5ce36c25': {
    version: 'v0.36.0',
    inputs: ['scan-type', 'image-ref', 'scan-ref', 'severity', 'ignore-unfixed', 'exit-code', 'format', 'output'],
    outputs: [],
  },
  'github/codeql-action/analyze@7211b7c8077ea37d8641b6271f6a365a22a5fbfa': {
    version: 'v4.36.0',
    inputs: ['category', 'upload'],
    outputs: [],
  },
  'zizmorcore/zizmor-action@6fc4b006235f201fdab3722e17240ab420d580e5': {
    version: 'v0.6.1',
    inputs: ['advanced-security', 'min-severity', 'persona', 'inputs'],
    outputs: [],
  },
  'actions/dependency-review-action@2031cfc080254a8a887f58cffee85186f0e49e48': {
    version: 'v4.9.0',
    inputs: ['fail-on-severity', 'deny-licenses', 'allow-licenses'],
    outputs: [],
  },
};

/** What stands in for one of them in a test. What it throws fails its step. */
export interface StandIn {
  /** `owner/name@commit`, as the workflow says it. */
  readonly uses: string;
  run(asked: StandInRequest): Promise<Readonly<Record<string, string>>>;
}

export interface StandInRequest {
  readonly with: Readonly<Record<string, string>>;
  readonly workspace: string;
  readonly env: Readonly<Record<string, string>>;
  readonly github: Readonly<Record<string, string>>;
}
