/** Redis, by redis_exporter. */
import { dashboard, goodAbove, goodBelow, graph, now, over, stat, upOrDown, variable } from './panels.mjs';

const here = 'instance=~"$instance"';
const rate = (metric) => `rate(${metric}{${here}}[$__rate_interval])`;

export default dashboard({
  uid: 'slipway-redis',
  title: 'Redis',
  description: 'Memory, commands, hits and persistence.',
  variables: [variable('instance', 'Server', 'redis_up')],
  rows: [
    {
      title: 'Now',
      panels: [
        upOrDown(`redis_up{${here}}`, { width: 6 }),
        stat(
          'Memory of maxmemory',
          {
            unit: 'percentunit',
            thresholds: goodBelow(0.8, 0.95),
            width: 6,
            description: 'Empty without a maxmemory: then only the container has a limit.',
          },
          over(`redis_memory_used_bytes{${here}} / (redis_memory_max_bytes{${here}} > 0)`, '{{instance}}'),
        ),
        stat(
          'Hits',
          {
            unit: 'percentunit',
            thresholds: goodAbove(0.5, 0.8),
            width: 6,
            description: 'Keys that were there, of those asked for in the time shown.',
          },
          now(
            `increase(redis_keyspace_hits_total{${here}}[$__range]) / ` +
              `(increase(redis_keyspace_hits_total{${here}}[$__range]) + increase(redis_keyspace_misses_total{${here}}[$__range]) > 0)`,
            '{{instance}}',
          ),
        ),
        stat(
          'Last snapshot',
          { unit: 's', width: 6, description: 'Age of the last RDB file that was written well.' },
          now(`time() - redis_rdb_last_save_timestamp_seconds{${here}}`, '{{instance}}'),
        ),
      ],
    },
    {
      title: 'Work',
      panels: [
        graph(
          'Commands',
          { unit: 'ops', stack: true, description: 'The ten most used.' },
          over(`topk(10, sum by (cmd) (rate(redis_commands_total{${here}}[$__rate_interval])))`, '{{cmd}}'),
        ),
        graph(
          'Time for a command',
          { unit: 's', description: 'Mean time in the server, without the network.' },
          over(
            `sum by (cmd) (${rate('redis_commands_duration_seconds_total')}) / (sum by (cmd) (${rate('redis_commands_total')}) > 0)`,
            '{{cmd}}',
          ),
        ),
        graph(
          'Hits and misses',
          { unit: 'ops', width: 8, description: 'Keys that were there, and that were not.' },
          over(rate('redis_keyspace_hits_total'), 'hits'),
          over(rate('redis_keyspace_misses_total'), 'misses'),
        ),
        graph(
          'Clients',
          { unit: 'short', width: 8, description: 'Blocked: waiting in BLPOP and the like.' },
          over(`redis_connected_clients{${here}}`, 'connected'),
          over(`redis_blocked_clients{${here}}`, 'blocked'),
        ),
        graph(
          'Network',
          { unit: 'Bps', width: 8, description: 'Requests and answers.' },
          over(rate('redis_net_input_bytes_total'), 'in'),
          over(rate('redis_net_output_bytes_total'), 'out'),
        ),
      ],
    },
    {
      title: 'Memory and keys',
      panels: [
        graph(
          'Memory',
          { unit: 'bytes', width: 8, description: 'Used for data, and taken from the system.' },
          over(`redis_memory_used_bytes{${here}}`, 'used'),
          over(`redis_memory_used_rss_bytes{${here}}`, 'resident'),
        ),
        graph(
          'Keys',
          { unit: 'short', width: 8, description: 'In each database that has any.' },
          over(`redis_db_keys{${here}} > 0`, '{{db}}'),
        ),
        graph(
          'Keys that went',
          {
            unit: 'ops',
            width: 8,
            description: 'Evicted: thrown out for want of memory. Expired: their time was over.',
          },
          over(rate('redis_evicted_keys_total'), 'evicted'),
          over(rate('redis_expired_keys_total'), 'expired'),
        ),
        graph(
          'Not yet in a snapshot',
          { unit: 'short', description: 'Changes since the last RDB file.' },
          over(`redis_rdb_changes_since_last_save{${here}}`, '{{instance}}'),
        ),
        graph(
          'Refused connections',
          { unit: 'short', description: 'In five minutes, beyond maxclients.' },
          over(`increase(redis_rejected_connections_total{${here}}[5m])`, '{{instance}}'),
        ),
      ],
    },
  ],
});
