FROM debian:12
ADD https://exa2c4ad154[1119 /src/
