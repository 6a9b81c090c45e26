/** PostgreSQL, by postgres_exporter. Only metrics that every version of it from 0.11 on calls the same. */
import { dashboard, goodAbove, goodBelow, graph, now, over, stat, table, upOrDown, variable } from './panels.mjs';

const here = 'instance=~"$instance"';
const chosen = `${here},datname=~"$database"`;
const rate = (metric) => `sum by (datname) (rate(${metric}{${chosen}}[$__rate_interval]))`;

export default dashboard({
  uid: 'slipway-postgresql',
  title: 'PostgreSQL',
  description: 'Connections, transactions, cache, locks and sizes.',
  variables: [
    variable('instance', 'Server', 'pg_up'),
    variable(
      'database',
      'Database',
      'pg_stat_database_numbackends{instance=~"$instance",datname!~"template.*|"}',
      'datname',
    ),
  ],
  rows: [
    {
      title: 'Now',
      panels: [
        upOrDown(`pg_up{${here}}`, { width: 6 }),
        stat(
          'Connections in use',
          {
            unit: 'percentunit',
            thresholds: goodBelow(0.7, 0.9),
            width: 6,
            description: 'Of max_connections. During a deploy old and new replicas hold a pool each.',
          },
          over(
            `sum by (instance) (pg_stat_activity_count{${here}}) / max by (instance) (pg_settings_max_connections{${here}})`,
            '{{instance}}',
          ),
        ),
        stat(
          'Longest transaction',
          {
            unit: 's',
            thresholds: goodBelow(60, 600),
            width: 6,
            description: 'It keeps dead rows from being cleaned up, and maybe locks.',
          },
          now(`max by (instance) (pg_stat_activity_max_tx_duration{${chosen}})`, '{{instance}}'),
        ),
        stat(
          'Found in memory',
          {
            unit: 'percentunit',
            thresholds: goodAbove(0.9, 0.98),
            width: 6,
            description: 'Pages that were in shared_buffers, of all that were asked for in the time shown.',
          },
          now(
            `sum by (instance) (increase(pg_stat_database_blks_hit{${chosen}}[$__range])) / ` +
              `(sum by (instance) (increase(pg_stat_database_blks_hit{${chosen}}[$__range])) + sum by (instance) (increase(pg_stat_database_blks_read{${chosen}}[$__range])))`,
            '{{instance}}',
          ),
        ),
      ],
    },
    {
      title: 'Work',
      panels: [
        graph(
          'Transactions',
          { unit: 'ops', description: 'Committed, and rolled back.' },
          over(rate('pg_stat_database_xact_commit'), '{{datname}} committed'),
          over(rate('pg_stat_database_xact_rollback'), '{{datname}} rolled back'),
        ),
        graph(
          'Rows',
          { unit: 'ops', description: 'Read to answer queries (fetched), and written.' },
          over(rate('pg_stat_database_tup_fetched'), '{{datname}} fetched'),
          over(rate('pg_stat_database_tup_inserted'), '{{datname}} inserted'),
          over(rate('pg_stat_database_tup_updated'), '{{datname}} updated'),
          over(rate('pg_stat_database_tup_deleted'), '{{datname}} deleted'),
        ),
        graph(
          'Connections by state',
          {
            unit: 'short',
            stack: true,
            limit: 'limit',
            description: '`idle in transaction` for long: somebody forgot to commit.',
          },
          over(`sum by (state) (pg_stat_activity_count{${chosen}})`, '{{state}}'),
          over(`max(pg_settings_max_connections{${here}})`, 'limit'),
        ),
        graph(
          'Locks',
          { unit: 'short', stack: true, description: 'Held and waited for, by their mode.' },
          over(`sum by (mode) (pg_locks_count{${chosen}})`, '{{mode}}'),
        ),
      ],
    },
    {
      title: 'Trouble',
      panels: [
        graph(
          'Deadlocks',
          { unit: 'short', width: 8, description: 'In five minutes: transactions that waited for each other.' },
          over(`sum by (datname) (increase(pg_stat_database_deadlocks{${chosen}}[5m]))`, '{{datname}}'),
        ),
        graph(
          'Temporary files',
          { unit: 'Bps', width: 8, description: 'Sorts that did not fit into work_mem.' },
          over(rate('pg_stat_database_temp_bytes'), '{{datname}}'),
        ),
        graph(
          'Read from disk',
          { unit: 'ops', width: 8, description: 'Pages a second that were not in shared_buffers.' },
          over(rate('pg_stat_database_blks_read'), '{{datname}}'),
        ),
      ],
    },
    {
      title: 'Size',
      panels: [
        graph(
          'Database size',
          { unit: 'bytes', description: 'With indexes.' },
          over(`pg_database_size_bytes{${chosen}}`, '{{datname}}'),
        ),
        table(
          'Growth',
          { unit: 'bytes', columns: { datname: 'Database' }, value: 'Grown by', description: 'In the time shown.' },
          now(`sum by (datname) (delta(pg_database_size_bytes{${chosen}}[$__range]))`),
        ),
      ],
    },
  ],
});
