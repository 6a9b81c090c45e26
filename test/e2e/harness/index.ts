/** The runner harness: runs an action's bundle as the GitHub runner does, and fails on what it does not support. */
export { ArgvSampler, sampleArgv, type SampledProcess, type SamplerOptions } from './argv-sampler.ts';
export { parseManifest, readManifest, type ActionInput, type ActionManifest } from './action-manifest.ts';
export { HarnessError } from './harness-error.ts';
export {
  type Faults,
  Job,
  type JobEnd,
  type JobOptions,
  type Outcome,
  type RunningAction,
  type ScriptRequest,
  type StepRequest,
  type StepRun,
  type Trigger,
} from './job.ts';
export { findTracked, type Orphan } from './orphans.ts';
export { runAction, type ActionRequest, type ActionRun } from './run-action.ts';
export { renderEntry, renderLog, type Annotation, type LogEntry } from './step-log.ts';
