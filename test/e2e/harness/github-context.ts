import { randomUUID } from 'node:crypto';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { HarnessError } from './harness-error.ts';

/** The `github` context of a push to main; all but `token` are in the environment as GITHUB_* too. */
export function githubContext(workspace: string, root: string): Record<string, string> {
  const sha = '1d0c5b0c6a8a1f4ac1f3d6e0b7e94ac2bf58e7d3';
  return {
    actor: 'octocat',
    actor_id: '583231',
    api_url: 'https://api.github.com',
    base_ref: '',
    event_name: 'push',
    event_path: join(root, 'temp', '_github_workflow', 'event.json'),
    graphql_url: 'https://api.github.com/graphql',
    head_ref: '',
    job: 'deploy',
    ref: 'refs/heads/main',
    ref_name: 'main',
    ref_protected: 'false',
    ref_type: 'branch',
    repository: 'octocat/hello-world',
    repository_id: '1296269',
    repository_owner: 'octocat',
    repository_owner_id: '583231',
    retention_days: '90',
    run_attempt: '1',
    run_id: '4242424242',
    run_number: '7',
    server_url: 'https://github.com',
    sha,
    token: `ghs_${randomUUID().replaceAll('-', '')}`,
    triggering_actor: 'octocat',
    workflow: 'Deploy',
    workflow_ref: 'octocat/hello-world/.github/workflows/deploy.yml@refs/heads/main',
    workflow_sha: sha,
    workspace: existsSync(workspace) ? workspace : refuseWorkspace(workspace),
  };
}

function refuseWorkspace(workspace: string): never {
  throw new HarnessError(`the workspace ${workspace} is not there`);
}
