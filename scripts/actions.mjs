/**
 * The registry of actions: a new action is one new folder and one line here.
 * Build, docs, the contract tests and the architecture tests all read this list.
 */
export const actions = ['action-backup', 'action-deploy', 'action-health-check', 'action-rollback', 'action-ssl'];
