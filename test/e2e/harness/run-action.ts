import { Job, type JobEnd, type JobOptions, type StepRequest, type StepRun } from './job.ts';

export type ActionRequest = JobOptions & StepRequest;

/** One action, alone in its job: its main part, and what came after. */
export interface ActionRun extends StepRun {
  /** Undefined where the action declares none, or its `post-if` did not allow it, or the runner was lost. */
  readonly post: StepRun | undefined;
  readonly orphans: JobEnd['orphans'];
  readonly leftFiles: JobEnd['leftFiles'];
}

/**
 * Runs the bundle of an action as the GitHub runner does.
 *
 * @throws HarnessError for what it does not support, and when its bound passes. A failing action is not an error: see
 * `outcome`.
 */
export async function runAction(request: ActionRequest): Promise<ActionRun> {
  const job = await Job.open(request);
  let main: StepRun;
  try {
    main = await job.step({
      ...request,
      // `env` is the job's already.
      env: {},
    });
  } catch (error) {
    // Nothing more runs after a fault of the harness; what is left is killed and removed.
    await job.abandon();
    throw error;
  }
  const { posts, orphans, leftFiles } = await job.close();
  return { ...main, post: posts[0], orphans, leftFiles };
}
