/** RED: rate, errors, duration. And what usually is behind them. */
import { dashboard, goodBelow, graph, lines, logs, now, over, stat, table, variable } from './panels.mjs';

const chosen = 'job=~"$job",route=~"$route"';
const requests = (more = '') => `rate(http_requests_total{${chosen}${more}}[$__rate_interval])`;
const failed = requests(',status=~"5.."');
const quantile = (share, by = 'le') =>
  `histogram_quantile(${share}, sum by (${by}) (rate(http_request_duration_seconds_bucket{${chosen}}[$__rate_interval])))`;

export default dashboard({
  uid: 'slipway-application',
  title: 'Application',
  description: 'Rate, errors and duration of the requests, by route and by release.',
  variables: [
    variable('job', 'Job', 'http_requests_total'),
    variable('route', 'Route', 'http_requests_total{job=~"$job"}'),
  ],
  rows: [
    {
      title: 'Rate',
      panels: [
        graph(
          'Requests by route',
          {
            unit: 'reqps',
            stack: true,
            description: 'Answered requests a second. `unmatched` is every address that the application does not know.',
          },
          over(`sum by (method, route) (${requests()})`, '{{method}} {{route}}'),
        ),
        graph(
          'Requests by status',
          { unit: 'reqps', stack: true, description: '499: the client went away before the answer.' },
          over(`sum by (status) (${requests()})`, '{{status}}'),
        ),
      ],
    },
    {
      title: 'Errors',
      panels: [
        graph(
          'Share of errors by release',
          {
            unit: 'percentunit',
            thresholds: goodBelow(0.01, 0.05),
            description: 'Answers 5xx out of all, for each release that answered. Is it the new one?',
          },
          over(
            `sum by (release_id) (((${failed}) or 0 * ${requests()}) * on (instance) group_left (release_id) build_info{job=~"$job"}) / ` +
              `sum by (release_id) (${requests()} * on (instance) group_left (release_id) build_info{job=~"$job"})`,
            '{{release_id}}',
          ),
        ),
        graph(
          'Errors by route',
          { unit: 'reqps', stack: true, description: 'Answers 5xx a second. Empty where there are none.' },
          over(`sum by (method, route) (${failed})`, '{{method}} {{route}}'),
        ),
      ],
    },
    {
      title: 'Duration',
      panels: [
        graph(
          'Latency',
          {
            unit: 's',
            description:
              'So many of 100 requests are answered within this time. Exact to the buckets of the histogram.',
          },
          over(quantile(0.5), 'p50'),
          over(quantile(0.95), 'p95'),
          over(quantile(0.99), 'p99'),
        ),
        graph(
          'Latency by route (p95)',
          { unit: 's', description: '95 of 100 requests are answered within this time.' },
          over(quantile(0.95, 'le, route'), '{{route}}'),
        ),
        table(
          'Routes',
          {
            unit: 's',
            width: 24,
            height: 6,
            columns: { method: 'Method', route: 'Route' },
            value: 'Mean duration',
            description: 'Over the whole time shown: where the time goes.',
          },
          now(
            `sum by (method, route) (increase(http_request_duration_seconds_sum{${chosen}}[$__range])) / ` +
              `sum by (method, route) (increase(http_request_duration_seconds_count{${chosen}}[$__range]) > 0)`,
          ),
        ),
      ],
    },
    {
      title: 'Queues and pools',
      panels: [
        graph(
          'Requests under way',
          {
            unit: 'short',
            width: 6,
            description: 'Growing while the rate does not: something behind has become slow.',
          },
          over('sum by (instance) (http_requests_in_flight{job=~"$job"})', '{{instance}}'),
        ),
        graph(
          'PostgreSQL connections',
          { unit: 'short', width: 6, stack: true, limit: 'limit', description: 'Of all replicas together.' },
          over('sum by (state) (pg_pool_connections{job=~"$job"})', '{{state}}'),
          over('sum(pg_pool_max_connections{job=~"$job"})', 'limit'),
        ),
        graph(
          'Waiting for PostgreSQL',
          {
            unit: 'short',
            width: 6,
            description:
              'Queries that wait for a free connection: above 0 for long, the pool is too small or the queries too slow.',
          },
          over('sum by (instance) (pg_pool_waiting_requests{job=~"$job"})', '{{instance}}'),
        ),
        graph(
          'Waiting for Redis',
          { unit: 'short', width: 6, description: 'Commands that have no answer yet.' },
          over('sum by (instance) (redis_client_pending_commands{job=~"$job"})', '{{instance}}'),
        ),
      ],
    },
    {
      title: 'Processes',
      panels: [
        stat(
          'Release',
          { unit: 'none', width: 6, height: 8, show: 'value_and_name', description: 'Replicas of each release.' },
          now('count by (release_id) (build_info{job=~"$job"})', '{{release_id}}'),
        ),
        graph(
          'Memory',
          { unit: 'bytes', width: 6, description: 'Resident, of each replica.' },
          over('process_resident_memory_bytes{job=~"$job"}', '{{instance}}'),
        ),
        graph(
          'CPU',
          { unit: 'short', width: 6, description: 'Cores in use, of each replica: Node.js computes on one.' },
          over('rate(process_cpu_seconds_total{job=~"$job"}[$__rate_interval])', '{{instance}}'),
        ),
        graph(
          'Event loop lag (p99)',
          { unit: 's', width: 6, description: 'How late a timer comes: something computes for too long in one go.' },
          over('nodejs_eventloop_lag_p99_seconds{job=~"$job"}', '{{instance}}'),
        ),
      ],
    },
    {
      title: 'Logs',
      panels: [
        lines(
          'Failed requests',
          { description: 'What the application says of requests that it answered with 5xx.' },
          logs('{service="api", level=~"warn|error"} | json | status >= 500'),
        ),
      ],
    },
  ],
});
