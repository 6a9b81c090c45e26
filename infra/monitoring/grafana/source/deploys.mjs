/** What Slipway did: the metrics that its actions leave for node-exporter's textfile collector. */
import {
  dashboard,
  goodBelow,
  graph,
  now,
  over,
  stat,
  table,
  variable,
  words,
  yesIsGood,
  zeroIsGood,
} from './panels.mjs';

const chosen = 'project=~"$project"';

export default dashboard({
  uid: 'slipway-deploys',
  title: 'Deploys and backups',
  description: 'Which release since when; how old the newest proven backup is, and what proving it took.',
  from: 'now-7d',
  variables: [variable('project', 'Project', '{__name__=~"slipway_(deploy|backup)_.+"}')],
  rows: [
    {
      title: 'Deploys',
      panels: [
        stat(
          'Last deploy',
          { unit: 's', width: 6, show: 'value_and_name', description: 'How long ago, whatever became of it.' },
          now(`time() - slipway_deploy_last_timestamp_seconds{${chosen}}`, '{{project}}'),
        ),
        stat(
          'Its result',
          {
            unit: 'none',
            width: 6,
            show: 'value_and_name',
            thresholds: yesIsGood,
            mappings: words({ 0: 'reverted', 1: 'live' }),
            description: 'Reverted: the release before it serves, as if nothing had been.',
          },
          now(`slipway_deploy_last_success{${chosen}}`, '{{project}}'),
        ),
        stat(
          'Left over',
          {
            unit: 'none',
            width: 6,
            show: 'value_and_name',
            thresholds: zeroIsGood,
            mappings: words({ 0: 'nothing', 1: 'something' }),
            description: 'A deploy could be neither finished nor taken back as a whole: the next one tries again.',
          },
          now(`slipway_deploy_recovery_failed{${chosen}}`, '{{project}}'),
        ),
        stat(
          'It took',
          { unit: 's', width: 6, show: 'value_and_name', description: 'From its first line to its end.' },
          now(`slipway_deploy_last_duration_seconds{${chosen}}`, '{{project}}'),
        ),
        table(
          'What it was',
          {
            unit: 'none',
            columns: { project: 'Project', task: 'Task', release: 'Release', result: 'Result' },
            value: '',
            description: 'The last deploy or rollback of each project.',
          },
          now(`max by (project, task, release, result) (slipway_deploy_last_info{${chosen}})`),
        ),
        graph(
          'Duration',
          { unit: 's', description: 'Of each deploy, from its first line to its end.' },
          over(`slipway_deploy_last_duration_seconds{${chosen}}`, '{{project}}'),
        ),
        graph(
          'Replicas by release',
          {
            unit: 'short',
            stack: true,
            description: 'What answers, by the application’s own word: two releases for as long as a deploy takes.',
          },
          over('count by (release_id) (build_info{job="app"})', '{{release_id}}'),
        ),
      ],
    },
    {
      title: 'Backups',
      panels: [
        stat(
          'Last proven backup',
          {
            unit: 's',
            width: 6,
            show: 'value_and_name',
            thresholds: goodBelow(26 * 3600, 50 * 3600),
            description: 'The age of the newest backup that was restored and compared: what would be lost (RPO).',
          },
          now(
            `time() - min by (project, source) (slipway_backup_last_proven_timestamp_seconds{${chosen}})`,
            '{{project}} {{source}}',
          ),
        ),
        stat(
          'Newest backup proven',
          {
            unit: 'none',
            width: 6,
            show: 'value_and_name',
            thresholds: yesIsGood,
            mappings: words({ 0: 'no', 1: 'yes' }),
            description: 'Whether the newest backup of each source was restored and compared.',
          },
          now(`slipway_backup_proven{${chosen}}`, '{{project}} {{source}}'),
        ),
        stat(
          'Last run',
          {
            unit: 'none',
            width: 6,
            show: 'value_and_name',
            thresholds: yesIsGood,
            mappings: words({ 0: 'failed', 1: 'worked' }),
            description: 'What became of the last run of action-backup.',
          },
          now(`slipway_backup_last_run_success{${chosen}}`, '{{project}}'),
        ),
        stat(
          'Suspect',
          {
            unit: 'none',
            width: 6,
            show: 'value_and_name',
            thresholds: zeroIsGood,
            mappings: words({ 0: 'no', 1: 'yes' }),
            description: 'The newest backup lost so much that somebody must look at it.',
          },
          now(`slipway_backup_suspect{${chosen}}`, '{{project}}'),
        ),
        graph(
          'Size',
          { unit: 'bytes', width: 8, description: 'Stored, of the newest backup of each source.' },
          over(`slipway_backup_size_bytes{${chosen}}`, '{{project}} {{source}}'),
        ),
        graph(
          'Time for a backup',
          { unit: 's', width: 8, description: 'All sources together.' },
          over(`slipway_backup_duration_seconds{${chosen}}`, '{{project}}'),
        ),
        graph(
          'Time for the proof',
          { unit: 's', width: 8, description: 'A recovery takes that at least (RTO).' },
          over(`slipway_backup_proof_duration_seconds{${chosen}}`, '{{project}} {{source}}'),
        ),
        table(
          'Backups kept',
          {
            unit: 'none',
            width: 24,
            height: 5,
            columns: { project: 'Project' },
            value: 'Backups',
            description: 'On the server.',
          },
          now(`max by (project) (slipway_backup_kept{${chosen}})`),
        ),
      ],
    },
  ],
});
