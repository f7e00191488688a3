# A page of all people, from the database. One request after the other.
use strict;
use warnings;
use IO::Socket::INET;

$SIG{TERM} = sub { exit 0 };
my $server = IO::Socket::INET->new(LocalAddr => '127.0.0.1', LocalPort => $ARGV[0], Listen => 16, ReuseAddr => 1)
    or die "listen: $!";
while (1) {
    my $client = $server->accept() or next;
    while (my $line = <$client>) { last if $line =~ /^\r?\n$/ }
    open(my $rows, '-|', 'psql', '-AtX', '-F', ', ', '-c', 'SELECT name, born FROM people ORDER BY born, name');
    my $list = '';
    while (my $row = <$rows>) {
        chomp $row;
        $row =~ s/&/&amp;/g;
        $row =~ s/</&lt;/g;
        $list .= "<li>$row</li>\n";
    }
    my $status = close($rows) ? '200 OK' : '503 Service Unavailable';
    my $page = "<!doctype html><title>People</title><ul>\n$list</ul>\n";
    print $client "HTTP/1.0 $status\r\nContent-Type: text/html\r\nContent-Length: ", length($page), "\r\n\r\n$page";
    close($client);
}
