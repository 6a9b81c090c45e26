/** What each container takes, by cAdvisor. Named by Compose's project and service: names and ids change with every release. */
import { dashboard, graph, now, over, table, variable } from './panels.mjs';

const [project, service] = ['container_label_com_docker_compose_project', 'container_label_com_docker_compose_service'];
const chosen = `${project}=~"$project",${service}=~"$service"`;
const by = `${project}, ${service}`;
const name = `{{${project}}}/{{${service}}}`;
const rate = (metric) => `sum by (${by}) (rate(${metric}{${chosen}}[$__rate_interval]))`;

export default dashboard({
  uid: 'slipway-containers',
  title: 'Containers',
  description: 'CPU, memory, network and restarts of the services of each Compose project.',
  variables: [
    variable('project', 'Project', `container_last_seen{${project}!=""}`, project),
    variable('service', 'Service', `container_last_seen{${project}=~"$project",${service}!=""}`, service),
  ],
  rows: [
    {
      title: 'Trouble',
      panels: [
        table(
          'Starts',
          {
            unit: 'none',
            columns: { [project]: 'Project', [service]: 'Service' },
            value: 'Times that one was started again',
            description:
              'In the time shown, without the first start. A deploy makes new containers, and so does not count.',
          },
          now(`sum by (${by}) (changes(container_start_time_seconds{${chosen}}[$__range]))`),
        ),
        table(
          'Killed for want of memory',
          {
            unit: 'none',
            columns: { [project]: 'Project', [service]: 'Service' },
            value: 'Kills',
            description: 'In the time shown. Give it more memory, or find the leak.',
          },
          now(`sum by (${by}) (increase(container_oom_events_total{${chosen}}[$__range]))`),
        ),
      ],
    },
    {
      title: 'Memory and CPU',
      panels: [
        graph(
          'Memory',
          {
            unit: 'bytes',
            stack: true,
            description: 'Working set: what counts against the limit, without the cache that can go.',
          },
          over(`sum by (${by}) (container_memory_working_set_bytes{${chosen}})`, name),
        ),
        graph(
          'Memory of the limit',
          { unit: 'percentunit', description: 'Of those that have a limit. At 1 the kernel kills.' },
          over(
            `max by (${by}) (container_memory_working_set_bytes{${chosen}} / (container_spec_memory_limit_bytes{${chosen}} > 0))`,
            name,
          ),
        ),
        graph(
          'CPU',
          { unit: 'short', stack: true, description: 'Cores in use.' },
          over(rate('container_cpu_usage_seconds_total'), name),
        ),
        graph(
          'Held back',
          { unit: 'percentunit', description: 'Part of the periods in which a service with a CPU limit had to wait.' },
          over(
            `${rate('container_cpu_cfs_throttled_periods_total')} / (${rate('container_cpu_cfs_periods_total')} > 0)`,
            name,
          ),
        ),
      ],
    },
    {
      title: 'Network and disk',
      panels: [
        graph(
          'Received',
          { unit: 'Bps', width: 6, description: 'By the network.' },
          over(rate('container_network_receive_bytes_total'), name),
        ),
        graph(
          'Sent',
          { unit: 'Bps', width: 6, description: 'By the network.' },
          over(rate('container_network_transmit_bytes_total'), name),
        ),
        graph(
          'Read',
          { unit: 'Bps', width: 6, description: 'From disks.' },
          over(rate('container_fs_reads_bytes_total'), name),
        ),
        graph(
          'Written',
          { unit: 'Bps', width: 6, description: 'To disks.' },
          over(rate('container_fs_writes_bytes_total'), name),
        ),
      ],
    },
    {
      title: 'Age',
      panels: [
        table(
          'Running since',
          {
            unit: 's',
            width: 24,
            columns: { [project]: 'Project', [service]: 'Service', name: 'Container', image: 'Image' },
            value: 'For',
            description: 'What runs now, and from which image.',
          },
          now(`time() - max by (${by}, name, image) (container_start_time_seconds{${chosen}})`),
        ),
      ],
    },
  ],
});
