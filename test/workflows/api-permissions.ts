/** What a job's token must be allowed for each request, so that a workflow with too little fails here as it would there. */
import { findOperation } from '../github-api/description';
import { answerJson, type GithubApi } from '../github-api/server';
import type { Permissions } from './workflow.ts';

/** https://docs.github.com/rest/authentication/permissions-required-for-github-apps */
const NEEDED: Readonly<Record<string, readonly string[]>> = {
  'repos/create-deployment': ['deployments'],
  'repos/create-deployment-status': ['deployments'],
  'issues/create': ['issues'],
  'issues/update': ['issues'],
  'issues/create-comment': ['issues', 'pull-requests'],
  'issues/update-comment': ['issues', 'pull-requests'],
  'repos/create-release': ['contents'],
  'repos/update-release': ['contents'],
  'repos/delete-release': ['contents'],
  'repos/upload-release-asset': ['contents'],
  'git/create-ref': ['contents'],
  'git/update-ref': ['contents'],
};

/** @param current of the job that runs; any one of those that are needed is enough, with `write` */
export function enforcePermissions(api: GithubApi, current: () => Permissions): void {
  api.before = (request, response) => {
    const id = findOperation(request.method, request.url)?.operation.id ?? '';
    const needed = NEEDED[id];
    if (needed === undefined || needed.some((name) => current()[name] === 'write')) return false;
    answerJson(response, 403, { message: 'Resource not accessible by integration', documentation_url: '' });
    return true;
  };
}
