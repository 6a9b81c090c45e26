/** What to look at first, on one screen. */
import {
  dashboard,
  goodAbove,
  goodBelow,
  graph,
  lines,
  logs,
  now,
  over,
  stat,
  table,
  words,
  yesIsGood,
  zeroIsGood,
} from './panels.mjs';

const disks = 'fstype!~"tmpfs|ramfs|overlay|squashfs|fuse.*",mountpoint!~"/(boot|run|var/lib/docker)($|/.*)"';

export default dashboard({
  uid: 'slipway-overview',
  title: 'Overview',
  description: 'Is everything well? Each row leads to a dashboard of its own.',
  rows: [
    {
      title: 'Now',
      panels: [
        stat(
          'Alerts firing',
          { unit: 'none', thresholds: zeroIsGood, description: 'Without the watchdog, which always fires.' },
          now('count(ALERTS{alertstate="firing",alertname!="Watchdog"}) or 0 * count(up)'),
        ),
        stat(
          'Targets down',
          { unit: 'none', thresholds: zeroIsGood, description: 'What Prometheus could not scrape at its last try.' },
          now('count(up == 0) or 0 * count(up)'),
        ),
        stat(
          'Release',
          {
            unit: 'none',
            show: 'name',
            width: 8,
            description: 'What answers now: two during a deploy, one otherwise.',
          },
          now('count by (release_id) (build_info{job="app"})', '{{release_id}}'),
        ),
        stat(
          'From outside',
          {
            unit: 'none',
            show: 'value_and_name',
            width: 8,
            thresholds: yesIsGood,
            mappings: words({ 0: 'fails', 1: 'answers' }),
            description: 'What the blackbox exporter asks as a visitor would.',
          },
          now('min by (instance) (probe_success{job=~"blackbox-.*"})', '{{instance}}'),
        ),
        table(
          'Alerts',
          {
            unit: 'none',
            width: 24,
            height: 5,
            columns: { alertname: 'Alert', severity: 'Severity', job: 'Job', instance: 'Instance' },
            value: 'Firing',
            description: 'Silences and groups: see Alertmanager.',
          },
          now('count by (alertname, severity, job, instance) (ALERTS{alertstate="firing",alertname!="Watchdog"})'),
        ),
      ],
    },
    {
      title: 'The application',
      panels: [
        graph(
          'Requests',
          {
            unit: 'reqps',
            width: 8,
            stack: true,
            description: 'By the class of the answer; see the dashboard Application.',
          },
          over(
            'sum by (class) (label_replace(rate(http_requests_total{job="app"}[$__rate_interval]), "class", "${1}xx", "status", "(.).."))',
            '{{class}}',
          ),
        ),
        graph(
          'Errors',
          { unit: 'percentunit', width: 8, thresholds: goodBelow(0.01, 0.05), description: 'Answers 5xx out of all.' },
          over(
            '(sum(rate(http_requests_total{job="app",status=~"5.."}[$__rate_interval])) or 0 * sum(rate(http_requests_total{job="app"}[$__rate_interval]))) / sum(rate(http_requests_total{job="app"}[$__rate_interval]))',
            'errors',
          ),
        ),
        graph(
          'Latency',
          { unit: 's', width: 8, description: 'Half of the requests, and 95 of 100, are answered within this time.' },
          over(
            'histogram_quantile(0.5, sum by (le) (rate(http_request_duration_seconds_bucket{job="app"}[$__rate_interval])))',
            'p50',
          ),
          over(
            'histogram_quantile(0.95, sum by (le) (rate(http_request_duration_seconds_bucket{job="app"}[$__rate_interval])))',
            'p95',
          ),
        ),
      ],
    },
    {
      title: 'The server',
      panels: [
        stat(
          'CPU',
          {
            unit: 'percentunit',
            max: 1,
            min: 0,
            width: 6,
            thresholds: goodBelow(0.8, 0.95),
            description: 'Busy, of all cores together.',
          },
          over('1 - avg by (instance) (rate(node_cpu_seconds_total{mode="idle"}[$__rate_interval]))', '{{instance}}'),
        ),
        stat(
          'Memory',
          {
            unit: 'percentunit',
            width: 6,
            thresholds: goodBelow(0.85, 0.95),
            description: 'In use and not to be had back: 1 - MemAvailable.',
          },
          over('1 - node_memory_MemAvailable_bytes / node_memory_MemTotal_bytes', '{{instance}}'),
        ),
        stat(
          'Disk',
          { unit: 'percentunit', width: 6, thresholds: goodBelow(0.8, 0.9), description: 'The fullest file system.' },
          over(
            `max by (instance) (1 - node_filesystem_avail_bytes{${disks}} / node_filesystem_size_bytes{${disks}})`,
            '{{instance}}',
          ),
        ),
        stat(
          'Certificates',
          {
            unit: 's',
            width: 6,
            thresholds: goodAbove(3 * 86_400, 14 * 86_400),
            description: 'Until the first one expires. How early is early depends on its lifetime: the alerts know.',
          },
          now('min by (instance) (probe_ssl_earliest_cert_expiry{job=~"blackbox-.*"} - time())', '{{instance}}'),
        ),
      ],
    },
    {
      title: 'Deploys and backups',
      panels: [
        stat(
          'Last deploy',
          {
            unit: 's',
            width: 12,
            show: 'value_and_name',
            description: 'How long ago; see the dashboard Deploys and backups.',
          },
          now('time() - max by (project) (slipway_deploy_last_timestamp_seconds)', '{{project}}'),
        ),
        stat(
          'Last proven backup',
          {
            unit: 's',
            width: 12,
            show: 'value_and_name',
            thresholds: goodBelow(26 * 3600, 50 * 3600),
            description: 'The age of the newest backup that was restored and compared: what would be lost.',
          },
          now('time() - min by (project) (slipway_backup_last_proven_timestamp_seconds)', '{{project}}'),
        ),
      ],
    },
    {
      title: 'Warnings and errors in the logs',
      panels: [
        lines(
          'Logs',
          { description: 'Of every container, at the levels warn and worse.' },
          logs('{level=~"warn|error|fatal"}'),
        ),
      ],
    },
  ],
});
