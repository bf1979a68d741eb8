import { BadRequestException, HttpException, HttpStatus, NotFoundException, NotImplementedException } from '@nestjs/common';

/* The error answers of this folder's endpoints. */

export const badParameters = (problems: readonly string[]) => new BadRequestException(problems.join(' '));
export const profilingOff = () => new NotFoundException('Profiling is off (ENABLE_PROFILING=false).');
export const nodeTooOld = () => new NotImplementedException(`Profiles need Node 26.1 or later; this is ${process.version}.`);
export const alreadyProfiling = () =>
  new HttpException(
    'Another profile is being taken. There can be one at a time: come back when it is done, or end it by closing its connection.',
    HttpStatus.TOO_MANY_REQUESTS,
  );
/** Never sent: the connection is closed. */
export const senderGone = () => new HttpException('The client has left.', 499);
