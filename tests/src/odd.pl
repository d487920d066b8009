# A server that misbehaves as its argument says. One connection at a time, one request each.
use strict;
use warnings;
use IO::Socket::INET;
$| = 1;
my $mode = shift // 'good';
my $version = $ENV{ODD_VERSION} // '';
print "odd server, mode $mode\n";
if ($mode eq 'exits')  { print STDERR "cannot go on\n"; exit 7; }
if ($mode eq 'silent') { sleep 3600 while 1; }
if ($mode eq 'late')   { sleep 2; }
$SIG{TERM} = $mode eq 'stubborn' ? 'IGNORE' : sub { exit 0 };
$SIG{PIPE} = 'IGNORE';
my $server = IO::Socket::INET->new(LocalPort => $ENV{PORT} || 8080, Listen => 128, ReuseAddr => 1)
    or die "cannot listen: $!";
sub slurp { my ($file) = @_; open(my $in, '<', $file) or return "cannot read: $!"; local $/; return <$in>; }
sub put { my ($file) = @_; open(my $out, '>', $file) or return "refused"; print $out "x"; close $out; return "written"; }
while (1) {
    my $client = $server->accept() or next;
    if ($mode eq 'hangs') { sleep 3600; next; }
    my $first = <$client> // '';
    my ($length, $sent) = (0, '');
    while (defined(my $line = <$client>)) {
        last if $line =~ /^\r?\n$/;
        $length = $1 if $line =~ /^content-length: *(\d+)/i;
    }
    if ($mode eq 'garbage') { print $client "this is no HTTP\n"; close $client; next; }
    my ($path) = $first =~ m{^\S+ (\S+)};
    $path //= '/';
    my $body = "version $version";
    if ($path =~ m{^/closes}) {
        print $client "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nhalf of it";
        close $client;
        next;
    }
    if ($path =~ m{^/eat}) {
        my @all;
        for my $n (1 .. 4000) { push @all, chr(65 + $n % 26) x (1 << 20); }
        $body = scalar @all;
    }
    if ($path =~ m{^/flood}) { print 'x' x 99, "\n" for 1 .. 400_000; print "end of flood\n"; }
    if ($path =~ m{^/say/(\w+)}) { print "said $1\n"; }
    if ($path =~ m{^/secret/(\S+)}) { $body = slurp("$ENV{STOIC_SECRETS}/$1"); }
    if ($path =~ m{^/write}) { $body = join ' ', put('/var/tmp/x'), put('/tmp/x'), put('/var/openfaas/secrets/x'); }
    if ($path =~ m{^/slow/(\d+)}) { sleep $1; }
    if ($path =~ m{^/read(/\S+)}) { $body = slurp($1); }
    if ($path =~ m{^/change(/\S+)}) { $body = put($1) . (unlink($1) ? ' removed' : ' kept'); }
    # As the runtimes of kubeless did it: the handler of the module that stands in /kubeless.
    if ($mode eq 'kubeless' && $path ne '/healthz') {
        read($client, $sent, $length) if $length;
        my ($file) = glob("/kubeless/$ENV{MOD_NAME}*");
        no strict 'refs';
        $body = eval { require $file; &{"main::$ENV{FUNC_HANDLER}"}($sent) } // "cannot: $@";
    }
    if ($path =~ m{^/token}) { $body = -e '/var/run/secrets/kubernetes.io' ? 'token' : 'none'; }
    if ($path =~ m{^/status}) { $body = slurp('/proc/self/status'); }
    print $client "HTTP/1.1 200 OK\r\nContent-Length: " . length($body) . "\r\nConnection: close\r\n\r\n$body";
    close $client;
}
