/**
 * The server itself, by node-exporter. Nothing of the network: the exporter has none of the host's, see compose.yaml. Traffic is on
 * the dashboard Containers.
 */
import { dashboard, goodBelow, graph, now, over, stat, variable } from './panels.mjs';

const here = 'instance=~"$instance"';
const disks = `${here},fstype!~"tmpfs|ramfs|overlay|squashfs|fuse.*",mountpoint!~"/(boot|run|var/lib/docker)($|/.*)"`;
const devices = `${here},device!~"loop.*|ram.*|sr.*"`;

export default dashboard({
  uid: 'slipway-host',
  title: 'Host',
  description: 'CPU, memory, disks and clock of the server.',
  variables: [variable('instance', 'Server', 'node_uname_info')],
  rows: [
    {
      title: 'Now',
      panels: [
        stat(
          'CPU',
          { unit: 'percentunit', thresholds: goodBelow(0.8, 0.95), description: 'Busy, of all cores together.' },
          over(
            `1 - avg by (instance) (rate(node_cpu_seconds_total{${here},mode="idle"}[$__rate_interval]))`,
            '{{instance}}',
          ),
        ),
        stat(
          'Memory',
          { unit: 'percentunit', thresholds: goodBelow(0.85, 0.95), description: 'In use and not to be had back.' },
          over(`1 - node_memory_MemAvailable_bytes{${here}} / node_memory_MemTotal_bytes{${here}}`, '{{instance}}'),
        ),
        stat(
          'Fullest disk',
          { unit: 'percentunit', thresholds: goodBelow(0.8, 0.9), description: 'Of the file systems that keep data.' },
          over(
            `max by (instance) (1 - node_filesystem_avail_bytes{${disks}} / node_filesystem_size_bytes{${disks}})`,
            '{{instance}}',
          ),
        ),
        stat(
          'Load for each core',
          {
            unit: 'short',
            decimals: 2,
            thresholds: goodBelow(1, 2),
            description: 'Of the last 5 minutes. Above 1, somebody waits.',
          },
          over(
            `node_load5{${here}} / on (instance) count by (instance) (node_cpu_seconds_total{${here},mode="idle"})`,
            '{{instance}}',
          ),
        ),
        stat(
          'Out-of-memory kills',
          { unit: 'none', thresholds: goodBelow(1, 1), description: 'In the time shown.' },
          now(`increase(node_vmstat_oom_kill{${here}}[$__range])`, '{{instance}}'),
        ),
        stat(
          'Running since',
          { unit: 's', description: 'Time since the last boot.' },
          now(`time() - node_boot_time_seconds{${here}}`, '{{instance}}'),
        ),
      ],
    },
    {
      title: 'CPU and memory',
      panels: [
        graph(
          'CPU by use',
          {
            unit: 'percentunit',
            stack: true,
            max: 1,
            description:
              '`iowait`: waits for a disk. `steal`: the host of this virtual machine gave the time to another one.',
          },
          over(`avg by (mode) (rate(node_cpu_seconds_total{${here},mode!="idle"}[$__rate_interval]))`, '{{mode}}'),
        ),
        graph(
          'Memory',
          { unit: 'bytes', limit: 'total', description: 'Buffers and cache are given back when they are needed.' },
          over(`node_memory_MemTotal_bytes{${here}} - node_memory_MemAvailable_bytes{${here}}`, 'in use'),
          over(`node_memory_Cached_bytes{${here}} + node_memory_Buffers_bytes{${here}}`, 'cache'),
          over(`node_memory_SwapTotal_bytes{${here}} - node_memory_SwapFree_bytes{${here}}`, 'swap in use'),
          over(`node_memory_MemTotal_bytes{${here}}`, 'total'),
        ),
        graph(
          'Pressure',
          { unit: 'percentunit', description: 'Part of the time in which some process waits for it (Linux PSI).' },
          over(`rate(node_pressure_cpu_waiting_seconds_total{${here}}[$__rate_interval])`, 'CPU'),
          over(`rate(node_pressure_memory_waiting_seconds_total{${here}}[$__rate_interval])`, 'memory'),
          over(`rate(node_pressure_io_waiting_seconds_total{${here}}[$__rate_interval])`, 'disk'),
        ),
        graph(
          'Load',
          { unit: 'short', limit: 'cores', description: 'Processes that run or wait to.' },
          over(`node_load1{${here}}`, '1 minute'),
          over(`node_load15{${here}}`, '15 minutes'),
          over(`count(node_cpu_seconds_total{${here},mode="idle"})`, 'cores'),
        ),
      ],
    },
    {
      title: 'Disks',
      panels: [
        graph(
          'Disk in use',
          {
            unit: 'percentunit',
            max: 1,
            thresholds: goodBelow(0.8, 0.9),
            description: 'What users other than root can no longer have.',
          },
          over(`1 - node_filesystem_avail_bytes{${disks}} / node_filesystem_size_bytes{${disks}}`, '{{mountpoint}}'),
        ),
        graph(
          'Free in 24 hours',
          { unit: 'bytes', description: 'If it goes on as in the time shown. Below 0: full by then.', min: undefined },
          over(`predict_linear(node_filesystem_avail_bytes{${disks}}[$__range], 86400)`, '{{mountpoint}}'),
        ),
        graph(
          'Inodes in use',
          { unit: 'percentunit', max: 1, width: 8, description: 'A disk is full too when it can have no more files.' },
          over(`1 - node_filesystem_files_free{${disks}} / (node_filesystem_files{${disks}} > 0)`, '{{mountpoint}}'),
        ),
        graph(
          'Disk traffic',
          { unit: 'Bps', width: 8, description: 'Read and written.' },
          over(`rate(node_disk_read_bytes_total{${devices}}[$__rate_interval])`, '{{device}} read'),
          over(`rate(node_disk_written_bytes_total{${devices}}[$__rate_interval])`, '{{device}} written'),
        ),
        graph(
          'Disk busy',
          { unit: 'percentunit', width: 8, description: 'Part of the time with a request under way.' },
          over(`rate(node_disk_io_time_seconds_total{${devices}}[$__rate_interval])`, '{{device}}'),
        ),
      ],
    },
    {
      title: 'Clock and limits',
      panels: [
        graph(
          'Clock',
          {
            unit: 's',
            width: 8,
            min: undefined,
            description: 'Offset from the reference. Certificates, logs and backups need the right time.',
          },
          over(`node_timex_offset_seconds{${here}}`, 'offset'),
          over(`node_timex_maxerror_seconds{${here}}`, 'largest possible error'),
        ),
        graph(
          'File descriptors',
          { unit: 'short', width: 8, description: 'Open in the whole system.' },
          over(`node_filefd_allocated{${here}}`, '{{instance}}'),
        ),
        graph(
          'Processes',
          { unit: 'short', width: 8, description: 'Blocked: waiting for a disk.' },
          over(`node_procs_running{${here}}`, 'running'),
          over(`node_procs_blocked{${here}}`, 'blocked'),
        ),
      ],
    },
  ],
});
