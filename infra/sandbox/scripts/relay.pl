#!/usr/bin/perl
# relay.pl TAP_A TAP_B DELAY_MS PID_FILE: hands every frame from one tap device to the other, DELAY_MS later.
# Perl's base package only: it is on every Debian and Ubuntu. Taps, not packet sockets: the kernel completes checksums and
# cuts large frames before it gives them to a tap.
use strict;
use warnings;
use Fcntl;
use Time::HiRes qw(time sleep);

my ($name_a, $name_b, $delay_ms, $pid_file) = @ARGV;
my $delay = $delay_ms / 1000;

sub open_tap {
    my ($name) = @_;
    sysopen(my $tap, '/dev/net/tun', O_RDWR | O_NONBLOCK) or die "cannot open /dev/net/tun: $!\n";
    my $request = pack('a16 S x22', $name, 0x0002 | 0x1000);    # IFF_TAP | IFF_NO_PI
    ioctl($tap, 0x400454ca, $request) or die "cannot make the tap $name: $!\n";    # TUNSETIFF
    return $tap;
}

my @tap = (open_tap($name_a), open_tap($name_b));
my @queue = ([], []);    # frames on their way to the other tap: [due, frame]
my $both = '';
vec($both, fileno($_), 1) = 1 for @tap;

open(my $stat, '<', '/proc/self/stat') or die $!;
my $start_time = (split ' ', (<$stat> =~ s/.*\) //sr))[19];
open(my $out, '>', "$pid_file.new") or die "cannot write $pid_file: $!\n";
print $out "$$ $start_time\n";
close($out);
rename("$pid_file.new", $pid_file) or die $!;

while (1) {
    my $due;
    for my $q (@queue) { $due = $q->[0][0] if @$q && (!defined $due || $q->[0][0] < $due) }
    my $wait;
    if (defined $due) { $wait = $due - time(); $wait = 0 if $wait < 0; }
    my $ready = $both;
    select($ready, undef, undef, $wait);
    for my $i (0, 1) {
        next unless vec($ready, fileno($tap[$i]), 1);
        while (sysread($tap[$i], my $frame, 65535)) { push @{ $queue[$i] }, [time() + $delay, $frame] }
    }
    my $now = time();
    for my $i (0, 1) {
        my $q = $queue[$i];
        while (@$q && $q->[0][0] <= $now) { syswrite($tap[1 - $i], (shift @$q)->[1]) }
    }
}
