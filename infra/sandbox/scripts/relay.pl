#!/usr/bin/perl
# relay.pl TAP_A TAP_B DELAY_MS PID_FILE [ADDRESS]: hands every frame from one tap device to the other, DELAY_MS later; with an
# IPv4 address only what comes from there or goes there, and everything else at once.
# Perl's base package only: it is on every Debian and Ubuntu. Taps, not packet sockets: the kernel completes checksums and
# cuts large frames before it gives them to a tap.
use strict;
use warnings;
use Fcntl;
use Time::HiRes qw(time sleep);

my ($name_a, $name_b, $delay_ms, $pid_file, $address) = @ARGV;
my $delay = $delay_ms / 1000;
my $far = $address ? pack('C4', split(/\./, $address)) : undef;

# https://www.rfc-editor.org/rfc/rfc894 and 791: the kind of a frame, and the two addresses of a packet.
sub is_delayed {
    my ($frame) = @_;
    return 1 unless defined $far;
    return substr($frame, 12, 2) eq "\x08\x00" && (substr($frame, 26, 4) eq $far || substr($frame, 30, 4) eq $far);
}

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
        while (sysread($tap[$i], my $frame, 65535)) {
            if (is_delayed($frame)) { push @{ $queue[$i] }, [time() + $delay, $frame] }
            else { syswrite($tap[1 - $i], $frame) }
        }
    }
    my $now = time();
    for my $i (0, 1) {
        my $q = $queue[$i];
        while (@$q && $q->[0][0] <= $now) { syswrite($tap[1 - $i], (shift @$q)->[1]) }
    }
}
