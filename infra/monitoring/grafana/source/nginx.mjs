/** nginx: what stub_status counts, by nginx-prometheus-exporter, and what its access log says of each request, by Loki. */
import { dashboard, graph, lines, logs, over, upOrDown, variable } from './panels.mjs';

const here = 'instance=~"$instance"';
const access = '{service=~"web|nginx"} | json | seconds != ""';

export default dashboard({
  uid: 'slipway-nginx',
  title: 'nginx',
  description: 'Connections and requests; status, latency and upstreams from the access log.',
  variables: [variable('instance', 'Server', 'nginx_up')],
  rows: [
    {
      title: 'Connections',
      panels: [
        upOrDown(`nginx_up{${here}}`, { height: 8 }),
        graph(
          'Requests',
          { unit: 'reqps', width: 10, description: 'All of them, those that are not logged too.' },
          over(`rate(nginx_http_requests_total{${here}}[$__rate_interval])`, '{{instance}}'),
        ),
        graph(
          'Connections',
          {
            unit: 'short',
            width: 10,
            stack: true,
            description: 'Reading a request, answering (writing), or kept alive (waiting).',
          },
          over(`nginx_connections_reading{${here}}`, 'reading'),
          over(`nginx_connections_writing{${here}}`, 'writing'),
          over(`nginx_connections_waiting{${here}}`, 'waiting'),
        ),
        graph(
          'New connections',
          { unit: 'cps', description: 'Accepted a second.' },
          over(`rate(nginx_connections_accepted{${here}}[$__rate_interval])`, '{{instance}}'),
        ),
        graph(
          'Dropped connections',
          { unit: 'short', description: 'In five minutes, for want of worker_connections or memory.' },
          over(
            `increase(nginx_connections_accepted{${here}}[5m]) - increase(nginx_connections_handled{${here}}[5m])`,
            '{{instance}}',
          ),
        ),
      ],
    },
    {
      title: 'From the access log',
      panels: [
        graph(
          'Answers by status',
          { unit: 'reqps', stack: true, description: '502 and 504: no replica answered. 499: the client went away.' },
          logs(`sum by (status) (rate(${access} [$__auto]))`, '{{status}}'),
        ),
        graph(
          'Latency (p95)',
          { unit: 's', description: 'With the time in which the client sends and receives; `upstream` is without.' },
          logs(`quantile_over_time(0.95, ${access} | unwrap seconds [$__auto]) by (service)`, 'to the client'),
          logs(
            `quantile_over_time(0.95, ${access} | upstreamSeconds =~ "[0-9.]+" | unwrap upstreamSeconds [$__auto]) by (service)`,
            'upstream',
          ),
        ),
        lines('Failed requests', { description: 'Answers 5xx.' }, logs(`${access} | status >= 500`)),
      ],
    },
  ],
});
